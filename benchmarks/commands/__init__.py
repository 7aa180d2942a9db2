"""What the command line does: run, compare, tune."""
