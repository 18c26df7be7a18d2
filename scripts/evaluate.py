"""`stepsearch evaluate` by its promised name."""

import sys

from stepsearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
