"""The C library: the engine of streams, the reader of their files and `fastrnn.h`, compiled."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..version import __version__
from . import flags, headers, toolchain
from .compile import LINES, CompileError

LIBRARY, HEADER = "libfastrnn.so", "fastrnn.h"
# Templates of the standard library would be visible, too.
SYMBOLS = "{ global: fastrnn_*; local: *; };\n"


def build(out: Path, isas: Sequence[str] | None = None, more: Sequence[str] = ()) -> list[Path]:
    """Compiles the library into a folder, with its header; the files' paths.

    isas: instruction sets besides "base", all by default; more: flags, as a sanitizer's. Raises
    `toolchain.NoCompiler`, `headers.NoHeaders`, CompileError, or OSError.
    """
    root = headers.library_folder()
    compiler = toolchain.find()
    toolchain.check(compiler)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fastrnn-", dir=out) as folder:
        work = Path(folder).resolve()
        commands = _commands(root, compiler.command, isas, more)
        objects = [f"{i}.o" for i in range(len(commands))]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            jobs = [
                pool.submit(_run, [*command, "-o", output], work)
                for command, output in zip(commands, objects)
            ]
            for job in jobs:
                job.result()
        (work / "symbols").write_text(SYMBOLS)
        link = [*compiler.command, "-shared", "-Wl,-s", *more, *objects, "-o", LIBRARY]
        _run([*link, f"-Wl,-soname,{LIBRARY}", "-Wl,--version-script=symbols"], work)
        shutil.copyfile(root / "c" / HEADER, work / HEADER)
        for name in (LIBRARY, HEADER):
            os.replace(work / name, out / name)
    return [out / LIBRARY, out / HEADER]


def _commands(root: Path, compiler: Sequence[str], isas: Sequence[str] | None, more) -> list[list]:
    """A compiler's command for each object file."""
    names = {"base", *(flags.isas() if isas is None else isas)}
    names |= {flags.isa_for(name, dtype) for name in names for dtype in ("float32", "int8")}
    wanted = {name: words for name, words in flags.isas().items() if name in names}
    have = [f"-DFASTRNN_HAVE_{name.upper()}" for name in wanted if name != "base"]
    version = f'-DFASTRNN_VERSION="{__version__}"'
    base = [*compiler, *flags.OPTIMISE, *flags.FLAGS, *more, f"-I{root}", "-c"]
    found = []
    for room in flags.LIBRARY:
        for source in sorted((root / room).glob("*.cpp")):
            found.append([*base, *have, version, str(source)])
        for source in sorted((root / room / "isa").glob("*.cpp")):
            for name, words in wanted.items():
                # what adds something for one dtype is for the source of its name
                if source.stem in flags.ISA_DTYPES.get(name, (source.stem,)):
                    found.append([*base, *words, f"-DFASTRNN_ISA={name}", str(source)])
    return found


def _run(command: Sequence[str], work: Path) -> None:
    done = subprocess.run(
        command, cwd=work, env=toolchain.environment(work), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = "".join(f"\n  {line}" for line in done.stdout.splitlines()[:LINES])
        raise CompileError(f"compiling the C library failed: {shlex.join(command)}{said}")
