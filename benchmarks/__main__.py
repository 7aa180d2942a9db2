"""`python -m benchmarks [run] | report FILE | compare REV | derived | clients | tune`."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from .cases import presets
from .errors import UsageError
from .peers.contestants import CONTESTANTS

COMMANDS = ("run", "report", "compare", "derived", "clients", "tune")


def _names(text: str) -> list[str]:
    return text.split(",")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number of minutes above 0, got {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, allow_abbrev=False
    )
    commands = top.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))
    run = commands.add_parser("run", help="measure (the default)", allow_abbrev=False)
    run.add_argument("--preset", choices=presets.PRESETS, default="full")
    run.add_argument("--quick", dest="preset", action="store_const", const="quick")
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument(
        "--threads", help="counts or 'all', by commas (custom-cells, zoo, stream 1; others 1,all)"
    )
    run.add_argument("--cells", type=_names, help=f"of {', '.join(presets.CELLS)}, by commas")
    run.add_argument("--modes", type=_names, help=f"of {', '.join(presets.MODES)}, by commas")
    run.add_argument("--only", metavar="TEXT", help="cases whose name contains this")
    run.add_argument("--peers", help=f"of {', '.join(CONTESTANTS)}, by commas")
    run.add_argument(
        "--slow-peers", action="store_true", help="those that compile for minutes, in every case"
    )
    run.add_argument("--budget", type=_minutes, metavar="MINUTES", help="bound the whole run")
    run.add_argument("--no-memory", dest="memory", action="store_false", help="skip peak memory")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    default = Path(__file__).parent / "out" / stamp
    run.add_argument("--out", type=Path, default=default, help="folder (benchmarks/out/<time>)")
    run.add_argument("--resume", action="store_true", help="go on with the results in --out")
    run.add_argument(
        "--dry-run", action="store_true", help="name the cases and the time, then stop"
    )
    report = commands.add_parser("report", help="tables and pictures from a result file")
    report.add_argument("file", type=Path)
    report.add_argument("--out", type=Path, help="folder (that of the file)")
    compare = commands.add_parser("compare", help="this tree against another revision")
    compare.add_argument("base", help="a git revision")
    compare.add_argument("--threads", type=int, default=1)
    compare.add_argument("--only", metavar="TEXT", help="cases whose name contains this")
    derived = commands.add_parser("derived", help="cells by hand against their derived versions")
    derived.add_argument("--threads", type=int, default=1)
    derived.add_argument("--only", metavar="TEXT", help="cases whose name contains this")
    clients = commands.add_parser("clients", help="whole models of other libraries")
    clients.add_argument("--only", metavar="TEXT", help="models whose library or title has this")
    clients.add_argument("--out", type=Path, default=default, help="folder (benchmarks/out/<time>)")
    tune = commands.add_parser("tune", help="time the CUDA engines: the table that auto reads")
    tune.add_argument("--device", choices=("cuda",), default="cuda")
    tune.add_argument("--only", metavar="TEXT", help="sizes whose name (CELL-tf32-H64-B8) has this")
    table = Path(__file__).parents[1] / "fastrnn/gpu/table.json"
    tune.add_argument("--out", type=Path, default=table, help="file (fastrnn/gpu/table.json)")
    return top


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["run", *arguments]
    top = parser()
    options = top.parse_args(arguments)
    try:
        if options.command == "report":
            from .measure import records
            from .report import document

            print(document.write(records.read(options.file), options.out or options.file.parent))
            return 0
        if options.command == "compare":
            from .commands import compare

            return compare.run(options.base, options.threads, options.only)
        if options.command == "derived":
            from .commands import derived

            return derived.run(options.threads, options.only)
        if options.command == "clients":
            from .commands import clients

            return clients.run(options.only, options.out)
        if options.device == "cuda":
            _need_cuda()
        if options.command == "tune":
            from .commands import tune

            return tune.run(options.out, options.only)

        from .commands import run

        return run.run(options)
    except UsageError as problem:
        top.exit(2, f"benchmarks: {problem}\n")
    except KeyboardInterrupt:
        top.exit(130, "benchmarks: interrupted\n")


def _need_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError("--device cuda: this torch sees no CUDA device")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
