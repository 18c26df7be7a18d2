"""`python -m stepsearch`, which is also what starts each of several processes."""

import sys

from stepsearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
