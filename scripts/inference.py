"""`stepsearch inference` by its promised name."""

import sys

from stepsearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["inference", *sys.argv[1:]]))
