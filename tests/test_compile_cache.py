"""Compiling and its cache, with a library of one function in the place of a cell."""

import ctypes
import json
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from fake_compilers import REAL, alive, answering, ask, forked, make, names, until

from fastrnn.compiled import cache, compile, flags, headers, toolchain
from fastrnn.compiled.cache import Cache
from fastrnn.compiled.compile import CompileError

pytestmark = pytest.mark.skipif(REAL is None, reason="no C++ compiler here")


def test_compiled_once_and_kept(cache_folder, fake_compiler):
    library = make()
    assert ask(library) == 42 and make() == library and len(fake_compiler.started()) == 1
    entry = library.parent
    assert [stat.S_IMODE(p.stat().st_mode) for p in (cache_folder, entry, library)] == [
        0o700,
        0o700,
        0o600,
    ]
    assert names(cache_folder) == [entry.name]
    assert {p.name for p in entry.iterdir()} == {
        *("cell.so", "entry.json", "answer.cpp", "compiler.log")
    }
    facts = json.loads((entry / "entry.json").read_text())
    assert facts["size"] == library.stat().st_size and facts["seconds"] > 0 and facts["date"]
    assert facts["compiler"] == toolchain.find().title


def test_a_umask_lets_nobody_in(cache_folder, fake_compiler):
    before = os.umask(0)
    try:
        library = make()
    finally:
        os.umask(before)
    assert not any(p.stat().st_mode & 0o022 for p in (cache_folder, library.parent, library))


def test_the_key_has_every_ingredient(monkeypatch):
    program, found = answering(facts={"isa": "avx2"}), toolchain.find()
    others = [
        (answering(43, facts={"isa": "avx2"}), found),
        (replace(program, sources={"other.cpp": program.sources["answer.cpp"]}), found),
        (replace(program, sources={**program.sources, "cell.h": ""}), found),
        (replace(program, flags=("-fPIC", "-O1")), found),
        (replace(program, headers_digest="other"), found),
        (replace(program, facts={"isa": "avx512"}), found),
        (program, replace(found, version=f"{found.version}.1")),
        (program, replace(found, command=(*found.command, "-m32"))),
    ]
    keys = [each.key(compiler) for each, compiler in [(program, found), *others]]
    monkeypatch.setattr(compile, "__version__", "9.9")
    keys.append(program.key(found))
    monkeypatch.setattr(compile.platform, "machine", lambda: "riscv64")
    keys.append(program.key(found))
    assert len(set(keys)) == len(keys) == 11
    assert replace(program, title="another").key(found) == program.key(found)


def test_the_digest_of_headers_is_that_of_names_and_contents(tmp_path):
    path = tmp_path / flags.HEADERS[0] / "some.h"
    path.parent.mkdir()
    seen = [headers.digest(tmp_path)]
    for text in ("one\n", "two\n"):
        path.write_text(text)
        seen.append(headers.digest(tmp_path))
    path.rename(path.with_name("other.h"))
    seen.append(headers.digest(tmp_path))
    assert len(set(seen)) == 4
    (path.parent / "notes.txt").write_text("no header")
    assert headers.digest(tmp_path) == seen[-1]


@pytest.mark.parametrize(
    "harm", ["truncated", "replaced", "a link", "open to all", "no facts", "facts of another kind"]
)
def test_an_entry_that_was_changed_is_made_again(cache_folder, fake_compiler, harm, capsys):
    library = make()
    content, facts = library.read_bytes(), library.parent / "entry.json"
    if harm == "truncated":
        library.write_bytes(content[: len(content) // 2])
    elif harm == "replaced":
        library.write_bytes(content.replace(b"answer", b"rewsna"))
    elif harm == "a link":
        library.rename(cache_folder.parent / "elsewhere.so")
        library.symlink_to(cache_folder.parent / "elsewhere.so")
    elif harm == "open to all":
        library.chmod(0o666)
    elif harm == "no facts":
        facts.unlink()
    else:
        facts.write_text("[1, 2]")
    capsys.readouterr()
    again = make()
    assert again == library and again.read_bytes() and not again.is_symlink()
    assert not Cache(cache_folder).find(library.parent.name).complaint()
    assert len(fake_compiler.started()) == 2 and names(cache_folder) == [library.parent.name]
    assert "is compiled again: in " in capsys.readouterr().err
    assert ctypes.CDLL(str(again)).answer() == 42


def test_twenty_processes_compile_once(cache_folder, fake_compiler):
    fake_compiler.do("sleep 0.3")
    answers = [forked(lambda: os._exit(ask(make()))) for _ in range(20)]
    for process in answers:
        process.join(60)
    assert [process.exitcode for process in answers] == [42] * 20
    assert len(fake_compiler.started()) == 1 and len(names(cache_folder)) == 1


def test_a_killed_process_leaves_nothing_that_matters(cache_folder, fake_compiler):
    fake_compiler.do("exec sleep 60")
    process = forked(make)
    until(fake_compiler.started)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (orphan,) = fake_compiler.started()
    assert len(names(cache_folder, ".work-")) == 1 and alive(orphan)
    fake_compiler.do("true")
    assert ask(make(answering(43))) == 43  # another entry: its leftovers go too
    assert not names(cache_folder, ".work-")
    assert ask(make()) == 42 and len(names(cache_folder)) == 2
    os.kill(orphan, signal.SIGKILL)


def test_ctrl_c_ends_the_compiler(cache_folder, fake_compiler):
    fake_compiler.do("sleep 60 & wait")
    process = forked(make)
    until(fake_compiler.started)
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 1  # KeyboardInterrupt
    assert names(cache_folder) == [] and not alive(fake_compiler.started()[0])
    fake_compiler.do("true")
    assert ask(make()) == 42


def test_a_killed_compiler(cache_folder, fake_compiler):
    fake_compiler.do("kill -9 $$")
    with pytest.raises(CompileError, match="was killed: Killed"):
        make()
    assert len(names(cache_folder)) == len(names(cache_folder, ".failed")) == 1
    fake_compiler.do("true")
    assert ask(make()) == 42


def test_a_compile_error_says_what_and_where(cache_folder, fake_compiler):
    bad = replace(answering(), sources={"bad.cpp": "int f() {\n  return missing;\n}\n"})
    for _ in range(2):  # it leaves one folder, however often
        with pytest.raises(CompileError, match="exit status 1") as caught:
            make(bad)
        (failed,) = names(cache_folder)
        assert "compiling the test's library failed" in str(caught.value)
        assert "bad.cpp:2:10: error: 'missing' was not declared" in str(caught.value)
        assert str(cache_folder / failed) in str(caught.value)
        assert {p.name for p in (cache_folder / failed).iterdir()} == {"bad.cpp", "compiler.log"}


def test_too_long(cache_folder, fake_compiler, monkeypatch):
    monkeypatch.setattr(compile, "PATIENCE", 0.5)
    fake_compiler.do("sleep 60")
    with pytest.raises(CompileError, match="took more than 0.5 s"):
        make()
    assert not alive(fake_compiler.started()[0]) and not names(cache_folder, ".work-")


def test_it_is_said_only_if_it_takes_a_while(cache_folder, fake_compiler, capsys, monkeypatch):
    monkeypatch.setattr(compile, "SILENCE", 30)
    make()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(compile, "SILENCE", 0.1)
    fake_compiler.do("sleep 0.4")
    make(answering(43))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "fastrnn: compiling the test's library ..."
    assert second.startswith("fastrnn: compiling the test's library took ")


def test_clear(cache_folder, fake_compiler):
    old, new = make(answering(1)).parent, make(answering(2)).parent
    os.utime(old, (0, 0))
    with Cache(cache_folder).held(old.name):
        assert Cache(cache_folder).clear() == (1, pytest.approx(16000, rel=0.9))  # one is in use
    assert names(cache_folder) == [old.name]
    new = make(answering(2)).parent
    assert Cache(cache_folder).clear(older_than=1)[0] == 1 and names(cache_folder) == [new.name]
    (cache_folder / "a note of the user").write_text("")
    assert Cache(cache_folder).clear()[0] == 1
    assert [path.name for path in cache_folder.iterdir()] == ["a note of the user"]


def test_the_compiler_is_not_led_astray(cache_folder, fake_compiler, monkeypatch, tmp_path):
    for name in ("CPLUS_INCLUDE_PATH", "CPATH", "LD_PRELOAD", "DEPENDENCIES_OUTPUT"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    fake_compiler.do(f"env > {tmp_path}/environment")
    make()
    seen = (tmp_path / "environment").read_text()
    assert "nowhere" not in seen and "LC_ALL=C\n" in seen and f"TMPDIR={cache_folder}" in seen
    assert not (tmp_path / "nowhere").exists()


def test_which_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(toolchain.NoCompiler, match="'no-such-compiler' cannot be run"):
        toolchain.find()
    monkeypatch.delenv("CXX")
    assert Path(toolchain.find().command[0]).is_absolute()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(toolchain.NoCompiler, match=r"no C\+\+ compiler found \(looked for \$CXX"):
        toolchain.find()
    old = tmp_path / "g++"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "g++ 4.1" && exit\necho too old; exit 1'
    )
    old.chmod(0o755)
    assert toolchain.find() == toolchain.Compiler((str(old),), "g++ 4.1")
    with pytest.raises(toolchain.NoCompiler, match=r"cannot compile C\+\+17: too old"):
        toolchain.check(toolchain.find())


def test_keys_differ_where_json_would_not_tell_lists_from_text():
    assert cache.key(["a", "b"]) != cache.key(["ab"]) != cache.key("ab")
