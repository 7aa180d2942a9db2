"""The command line, `python -m fastrnn`: a file for each command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import build, cached, library, report, source

COMMANDS = {
    "build": (build, "compile cells ahead of time into a folder that a package can ship"),
    "source": (source, "print the kernels that are derived from a cell"),
    "library": (library, "compile the C library, for programs without Python"),
    "cache": (cached, "list the cells that were compiled here, or remove them"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs a command; 0, or 1 after words on stderr. (argparse ends with 2 itself.)"""
    options = parser().parse_args(arguments)
    try:
        print(options.run(options), flush=True)
    except BrokenPipeError:  # as `| head` leaves it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, RuntimeError) as error:
        print(f"fastrnn: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Without a command: the report."""
    whole = argparse.ArgumentParser(
        prog="python -m fastrnn",
        description="Without a command: what is installed, built and compiled, which backend"
        " serves what, and why not.",
    )
    whole.set_defaults(run=lambda options: report.report())
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, (module, words) in COMMANDS.items():
        one = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        module.arguments(one)
        one.set_defaults(run=module.run)
    return whole
