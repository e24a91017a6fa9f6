"""The command line: `orlop`, and `python -m orlop`."""

import sys

from orlop.cli.main import program


def main() -> int:
    """Run the command line of this process; return its exit code."""
    return program()


if __name__ == "__main__":
    sys.exit(main())
