"""Files of streams: what is written is read, and what is not whole is refused."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
import stream_files
import torch

from buildtools import toolchain
from fastrnn import stream_file
from fastrnn.stream_file import FileLayer
from fastrnn.stream_file.form import DTYPES, HEADER

ROOT = Path(__file__).parents[1]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return left == right


@pytest.mark.parametrize("name", stream_files.stacks())
def test_what_is_written_is_read(tmp_path, name):
    layers, weights = stream_files.stacks()[name]
    path = tmp_path / "model.frnn"
    stream_file.write(path, layers, weights)
    found, kept = stream_file.read(path)
    assert kept == weights and len(found) == len(layers)
    for layer, again in zip(layers, found):
        assert same(vars(layer), vars(again))
    assert [p.name for p in tmp_path.iterdir()] == ["model.frnn"]
    assert stream_file.packed(found, kept) == path.read_bytes()
    for dtype in DTYPES:
        assert stream_file.unpacked(stream_file.packed(found, dtype))[1] == dtype


def test_every_truncation_and_every_changed_byte_is_an_error():
    layers, weights = stream_files.stacks()["one"]
    content = stream_file.packed(layers, weights)
    for end in range(len(content)):
        with pytest.raises(ValueError, match="stream file"):
            stream_file.unpacked(content[:end])
    for at in range(len(content)):
        content[at] ^= 0xFF
        with pytest.raises(ValueError, match="stream file"):
            stream_file.unpacked(content)
        content[at] ^= 0xFF
    stream_file.unpacked(content)


def test_hostile_numbers_with_a_right_checksum_are_errors_or_files():
    content = stream_file.packed(*stream_files.stacks()["int8"])
    read = 0
    for at in range(HEADER.size - 8, 256, 4):
        for value in (0, 1, 2, 255, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFC0):
            bad = bytearray(content)
            struct.pack_into("<I", bad, at, value)
            try:
                stream_file.unpacked(stream_files.mended(bad))
                read += 1
            except ValueError as error:
                assert len(str(error)) > 20
    assert 0 < read < 60  # what stays as it was, and the other dtypes for weights


@pytest.mark.parametrize("name", stream_files.lies())
def test_lies_with_a_right_checksum(name):
    with pytest.raises(ValueError, match="damaged"):
        stream_file.unpacked(bytearray(stream_files.lies()[name]))


def changed(**sizes):
    layer = stream_files.recurrent("gru", 2, 3)
    for name, value in sizes.items():
        setattr(layer, name, value)
    return layer


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([changed(cell="gru2")], "the cell 'gru2', which"),
        ([changed(input_size=3)], r"weight_ih must be \(9, 3\), got \(9, 2\)"),
        ([changed(output_size=2)], "weight_hh must be|lacks its weight_hr"),
        ([changed(output_size=4)], "output_size must be at most 3, got 4"),
        ([changed(tensors={})], "lacks its weight_hh, weight_ih"),
        ([changed(), changed()], "layer 1's input_size must be 3, got 2"),
        ([FileLayer("linear", 2, 3, 4, {"weight_ih": torch.zeros(3, 2)})], "sizes differ"),
    ],
)
def test_layers_that_do_not_fit(layers, message):
    with pytest.raises(ValueError, match=message):
        stream_file.unpacked(stream_file.packed(layers))


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        stream_file.read(tmp_path / "nothing")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="no stream file"):
        stream_file.read(tmp_path / "empty")
    content = stream_file.packed([changed()])
    content[8] = 2
    with pytest.raises(ValueError, match="of version 2, expected 1"):
        stream_file.unpacked(content)
    with pytest.raises(ValueError, match="1 to 1024 layers, got 0"):
        stream_file.packed([])
    with pytest.raises(ValueError, match="no place for a cell named 'a b'"):
        stream_file.packed([changed(cell="a b")])


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "model.frnn"
    stream_file.write(path, [changed()])
    before = path.read_bytes()
    with pytest.raises(ValueError):
        stream_file.write(path, [])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def fuzz(tmp_path, seconds):
    """The reader in C++ under sanitizers, on files that lie."""
    try:
        compiler = toolchain.find_compiler()
    except toolchain.BuildError as error:
        pytest.skip(str(error))
    flags = ["-std=c++17", "-O1", "-g1"]
    flags += SANITIZE if toolchain.compiler_accepts(compiler, SANITIZE) else []
    sources = [str(ROOT / "tests/file/fuzz.cpp"), str(ROOT / "csrc/file/file.cpp")]
    program = tmp_path / "fuzz"
    command = [*compiler, *flags, f"-I{ROOT / 'csrc'}", *sources, "-o", str(program)]
    subprocess.run(command, check=True, timeout=120)
    for name, (layers, weights) in stream_files.stacks().items():
        stream_file.write(tmp_path / name, layers, weights)
    for name, content in stream_files.lies().items():
        (tmp_path / name).write_bytes(content)
    words = [program, str(seconds), *stream_files.stacks(), "--", *stream_files.lies()]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "no complaints" in run.stdout
    print(run.stdout, file=sys.stderr)


def test_the_reader_in_cpp_on_files_that_lie(tmp_path):
    fuzz(tmp_path, 0.5)


@pytest.mark.slow
def test_the_reader_in_cpp_on_many_files_that_lie(tmp_path):
    fuzz(tmp_path, 15)
