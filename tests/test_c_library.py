"""fastrnn.h: a stream's file runs without Python to the same bits, and nothing brings it down."""

import random
import re
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import c_library
import pytest
import stream_files
import torch
from c_library import Stream, compile_c, flat, write_wav
from torch import nn

import fastrnn
from buildtools import native
from buildtools.toolchain import compiler_accepts
from fastrnn import ops, stream_file
from fastrnn.commands import main
from fastrnn.compiled import c_library as maker
from fastrnn.compiled import headers, program, toolchain
from fastrnn.compiled.compile import CompileError
from fastrnn.version import __version__

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """As a user gets it, of what is in a wheel, but for instruction sets that are not in use."""
    try:
        toolchain.check(toolchain.find())
    except toolchain.NoCompiler as error:
        pytest.skip(str(error))
    package, out = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("lib") / "made"
    for source in native.shipped(ROOT):
        (package / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, package / source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "PLACES", [package / "csrc"])
        assert main(["library", "--isa", program.running_isa(), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["fastrnn.h", "libfastrnn.so"]
    return out / "libfastrnn.so"


@pytest.fixture(scope="module")
def library(path):
    return c_library.load(path)


WEIGHTS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", c_library.stacks())
def test_the_same_bits_as_in_python(library, tmp_path, name, weights):
    stream = fastrnn.Stream(c_library.stacks()[name], batch_size=3, weights=weights)
    stream.save(tmp_path / "model.frnn")
    here = Stream.open(library, tmp_path / "model.frnn", 3)
    assert library.fastrnn_batch_size(here.handle) == 3
    x = torch.randn(7, 3, here.size("input"))
    wanted = stream(x)
    assert torch.equal(here(x), wanted)
    assert torch.equal(here.state, flat(stream.state))
    again = fastrnn.Stream.load(tmp_path / "model.frnn", batch_size=3)
    assert torch.equal(again(x), wanted) and torch.equal(flat(again.state), here.state)
    here.call("reset", 1)
    stream.reset(1)
    assert torch.equal(here(x[0]), stream(x[0]))
    here.call("reset", -1)
    assert torch.equal(here(x), wanted)


def test_both_readers_agree(library):
    """On files that were changed at random, with checksums that are right."""
    draw = random.Random(0)
    good = [bytes(stream_file.packed(*stack)) for stack in stream_files.stacks().values()]
    whole = 0
    for _ in range(2000):
        bad = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 2)):
            at = draw.randrange(32, min(len(bad), 400), 4)
            number = draw.choice([*range(9), 64, 255, 1025, 0x7FFFFFFF, 0xFFFFFFFF])
            bad[at : at + 4] = number.to_bytes(4, "little")
        bad = stream_files.mended(bad)
        try:
            stream_file.unpacked(bytearray(bad))
        except ValueError:
            with pytest.raises(ValueError, match="^(bad file|unsupported): "):
                Stream.open(library, bad)
        else:
            whole += 1
            Stream.open(library, bad)
    assert 50 < whole < 400


def test_state_is_got_and_set(library, tmp_path):
    stream = fastrnn.Stream(c_library.stacks()["lstm"])
    stream.save(tmp_path / "model.frnn")
    here = Stream.open(library, tmp_path / "model.frnn")
    x = torch.randn(4, 1, 5)
    whole = here(x)
    here.call("reset", -1)
    assert here.state.tolist() == [0.0] * 13
    here(x[:2])
    other = here.share()
    other.state = here.state
    assert torch.equal(other(x[2:]), whole[2:])
    del here
    other.call("reset", 0)
    assert torch.equal(other(x), whole)


@pytest.mark.parametrize("name", stream_files.stacks())
def test_files_of_every_kind(library, name):
    layers, weights = stream_files.stacks()[name]
    content = stream_file.packed(layers, weights)
    here = Stream.open(library, content)
    modules = stream_file.layers.modules(layers)
    x = torch.randn(5, 1, here.size("input"))
    assert torch.equal(here(x), fastrnn.Stream(modules, weights=weights)(x))


def test_damaged_files_are_errors(library, tmp_path):
    content = stream_file.packed(*stream_files.stacks()["one"])
    for end in range(len(content)):
        with pytest.raises(ValueError, match="^bad file: .*stream file"):
            Stream.open(library, content[:end])
    for at in range(len(content)):
        bad = bytearray(content)
        bad[at] ^= 0x11
        with pytest.raises(ValueError, match="^(bad file|unsupported): .*stream file"):
            Stream.open(library, bad)
    for end in (0, 7, 31, 32, 100, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:end])
        with pytest.raises(ValueError, match="^bad file: .*stream file"):
            Stream.open(library, tmp_path / "cut")
    for name, lie in stream_files.lies().items():
        (tmp_path / name).write_bytes(lie)
        for source in (bytes(lie), tmp_path / name):
            with pytest.raises(ValueError, match="^bad file: "):
                Stream.open(library, source)


def test_other_errors(library, tmp_path):
    content = stream_file.packed(*stream_files.stacks()["one"])
    with pytest.raises(ValueError, match="^cannot read: .*nothing: No such file"):
        Stream.open(library, tmp_path / "nothing")
    with pytest.raises(ValueError, match="^cannot read: .*: not a file"):
        Stream.open(library, tmp_path)
    for batch_size in (0, -1, 1 << 40):
        with pytest.raises(ValueError, match=f"^bad argument: batch_size .*, got {batch_size}"):
            Stream.open(library, content, batch_size)
    content[8] = 9
    with pytest.raises(ValueError, match="^unsupported: .* version 9, this library reads 1"):
        Stream.open(library, content)
    content[8] = 1
    alien = stream_files.recurrent("gru", 2, 3)
    alien.cell = "gru2"
    with pytest.raises(
        ValueError, match="^unsupported: layer 0 is of the cell 'gru2', which is no"
    ):
        Stream.open(library, stream_file.packed([alien]))
    here = Stream.open(library, content)
    x = torch.zeros(2, 1, 1)
    for steps, given, out, message in (
        (-1, x, x, "steps must not be -1"),
        (1 << 62, x, x, "steps must not be 4611686018427387904"),
        (2, x, x[1:], "input and output must not overlap"),
    ):
        with pytest.raises(ValueError, match=f"^bad argument: {message}"):
            here.call("step", steps, c_library.floats(given), c_library.floats(out))
    with pytest.raises(ValueError, match="^bad argument: stream, input and output"):
        here.call("step", 1, None, None)
    with pytest.raises(ValueError, match="^bad argument: row must lie between -1 and 0, got 1"):
        here.call("reset", 1)
    with pytest.raises(ValueError, match="^bad argument: size must be 1 numbers, got 2"):
        here.state = torch.zeros(2)
    assert library.fastrnn_input_size(None) == 0
    assert here(x).shape == (2, 1, 1)


def test_threads(library, tmp_path):
    """Streams of their own over shared weights, and errors that are each thread's own."""
    model = fastrnn.Stream([fastrnn.FastGRU(8, 32, num_layers=2), nn.Linear(32, 4)])
    model.save(tmp_path / "model.frnn")
    first = Stream.open(library, tmp_path / "model.frnn")
    inputs = torch.randn(4, 300, 1, 8)
    wanted = [fastrnn.Stream(model.layer)(x) for x in inputs]

    def serve(i):
        stream = first.share() if i % 2 else Stream.open(library, tmp_path / "model.frnn")
        outputs = torch.stack([stream(frame) for frame in inputs[i]])
        with pytest.raises(ValueError, match=f"got {-i - 5}"):
            stream.call("reset", -i - 5)
        return outputs

    with ThreadPoolExecutor(4) as pool:
        for found, wants in zip(pool.map(serve, range(4)), wanted):
            assert torch.equal(found, wants)


def test_what_the_library_is(path, library):
    assert library.fastrnn_version().decode() == __version__
    assert library.fastrnn_isa().decode() in ops.BUILD_INFO["isa"]
    if nm := shutil.which("nm"):
        listed = subprocess.run([nm, "-D", "--defined-only", path], capture_output=True, text=True)
        names = {line.split()[-1] for line in listed.stdout.splitlines()}
        header = (ROOT / "csrc/c/fastrnn.h").read_text()
        assert names == set(re.findall(r"^FASTRNN_API .*?(fastrnn_\w+)\(", header, re.M))
    needed = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    assert "torch" not in needed and "python" not in needed


def test_the_example_prints_what_python_prints(path, tmp_path, capsys):
    source = ROOT / "examples/c/speech.c"
    assert len(source.read_text().splitlines()) < 60
    compile_c(source, path, tmp_path / "speech", "-std=c99")
    write_wav(tmp_path / "sound.wav")
    words = [str(tmp_path / "model.frnn"), str(tmp_path / "sound.wav")]
    runpy.run_path(str(ROOT / "examples/c/speech.py"))["main"](*words)
    wanted = capsys.readouterr().out
    found = subprocess.run([tmp_path / "speech", *words], capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout == wanted
    assert len({*map(float, found.stdout.split())}) == 10
    run = subprocess.run([tmp_path / "speech", *reversed(words)], capture_output=True, text=True)
    assert run.returncode == 2 and "usage" in run.stderr
    (tmp_path / "model.frnn").write_bytes(b"no model" * 9)
    run = subprocess.run([tmp_path / "speech", *words], capture_output=True, text=True)
    assert run.returncode == 1 and "no stream file" in run.stderr


def test_the_header_in_cpp_and_its_own_example(path, tmp_path):
    """What the header's first comment shows, in C++."""
    text = (ROOT / "csrc/c/fastrnn.h").read_text()
    lines = re.search(r"( \*   fastrnn_stream.*?fastrnn_free\(stream\);)", text, re.S)[1]
    body = "\n".join(line[2:].replace("    ...", "") for line in lines.splitlines())
    text = "#include <stdio.h>\n#include <fastrnn.h>\nint next_frame(float*) { return 0; }\n"
    text += f"int main() {{ float input[1], output[1];\n{body}\nreturn 0; }}\n"
    (tmp_path / "main.cpp").write_text(text)
    compile_c(tmp_path / "main.cpp", path, tmp_path / "main", "-std=c++11", "-xc++")
    run = subprocess.run([tmp_path / "main"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode != 0 and "No such file" in run.stdout


def test_what_does_not_compile_leaves_nothing(tmp_path):
    with pytest.raises(CompileError, match="(?s)compiling the C library failed: .*no_such.h"):
        maker.build(tmp_path / "out", ["base"], ["-include", "no_such.h"])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_two_threads_and_damaged_files_under_a_sanitizer(tmp_path, sanitizer):
    flags = [f"-fsanitize={sanitizer}", "-O1", "-g1", "-fno-sanitize-recover=undefined"]
    if not compiler_accepts(list(toolchain.find().command), flags):
        pytest.skip(f"the compiler has no {sanitizer} sanitizer")
    path, _ = maker.build(tmp_path, ["base"], flags)
    compile_c(ROOT / "tests/c/serve.c", path, tmp_path / "serve", "-std=c99", "-pthread", *flags)
    layers = [fastrnn.FastGRU(3, 5, num_layers=2), nn.LSTM(5, 4, proj_size=2), nn.Linear(2, 3)]
    fastrnn.Stream(layers, weights=torch.bfloat16).save(tmp_path / "model.frnn")
    run = subprocess.run(
        [tmp_path / "serve", "model.frnn"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.stdout == "same\n" and run.returncode == 0 and not run.stderr, run.stderr
