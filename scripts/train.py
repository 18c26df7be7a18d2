"""`stepsearch train` by its promised name."""

import sys

from stepsearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
