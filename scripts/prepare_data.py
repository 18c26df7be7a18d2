"""`stepsearch prepare-data` by its promised name."""

import sys

from stepsearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare-data", *sys.argv[1:]]))
