"""fastrnn's benchmark suite: `python -m benchmarks --help`; the method stands in README.md."""
