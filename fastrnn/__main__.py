"""`python -m fastrnn`: see `fastrnn.commands`."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
