"""Wall time of the whole quickstart with one worker and with two: what a second core is worth.

    OMP_NUM_THREADS=1 python benchmarks/workers.py --repeats 3

Each run is `stepsearch quickstart` in a process of its own, shortened alike in every stage unless `--whole` is given.
Runs alternate; ratios are of neighbours. On a machine with other load, wall times say as much about that.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SHORT = [
    "training.max_steps=4",
    "training.value_warmup_steps=1",
    "world.test_questions=90",
    "world.dev_questions=64",
    "evaluation.every_steps=4",
    "warm_start.phases=[{kind: reading, updates: 20, tokens: 2048}, {kind: demonstrations, updates: 40, tokens: 4096}]",
]
COMMAND = "import sys; from stepsearch.cli.main import main; sys.exit(main())"


def quickstart(workers: int, overrides: list[str]) -> tuple[float, float]:
    """Run a quickstart; return seconds of wall and of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["quickstart", "--output-dir", f"{folder}/run", f"training.workers={workers}", *overrides]
        wall, cpu = time.perf_counter(), children_seconds()
        subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL, env=os.environ
        )
        return time.perf_counter() - wall, children_seconds() - cpu


def children_seconds() -> float:
    """Return the processor time of all ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a line per run, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="do not shorten the quickstart")
    options = parser.parse_args()
    overrides = [] if options.whole else SHORT
    ratios: list[float] = []
    for _ in range(options.repeats):
        walls: list[float] = []
        for workers in (1, options.workers):
            wall, cpu = quickstart(workers, overrides)
            walls.append(wall)
            print(f"{workers} workers  {wall:7.1f} s wall  {cpu:7.1f} s of processor", flush=True)
        ratios.append(walls[0] / walls[1])
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{options.workers} workers are {middle:.2f} times as fast as one ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
