"""`python -m implicit_cli` is `implicit`."""

import sys

from implicit_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
