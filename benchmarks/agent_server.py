"""Questions that `stepsearch serve` answers in a second, asked one by one and by many clients at once.

    OMP_NUM_THREADS=1 python benchmarks/agent_server.py --run runs/quickstart

They ask the same questions of the same server in turns, and answers are compared. The run is the quickstart's, or
another of its kind.
"""

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from stepsearch.data import read_questions


@contextmanager
def served(model: Path) -> Generator[str]:
    """Serve a model on loopback and give its address."""
    command = [sys.executable, "-m", "stepsearch", "serve", "--model-path", str(model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(match[0] for line in process.stdout if (match := re.search(r"http://[\d.:]+", line)))
    finally:
        process.terminate()
        process.wait()


def answers_of(url: str, questions: Sequence[str], clients: int) -> tuple[float, list[str | None]]:
    """Return the seconds that so many clients take for all questions, and the answers in order."""
    with httpx.Client(timeout=300) as client, ThreadPoolExecutor(clients) as pool:

        def ask(question: str) -> str | None:
            body = {"messages": [{"role": "user", "content": question}]}
            response = client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
            return response.json()["choices"][0]["message"]["content"]

        started = time.perf_counter()
        answers = list(pool.map(ask, questions))
        return time.perf_counter() - started, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if not args.run.is_dir():
        print(f"there is no run at {args.run}: make quickstart makes one")
        return
    read = read_questions(args.run / "data" / "test_processed.json")
    questions = [question.question for question in itertools.islice(read, args.questions)]
    rates: dict[int, list[float]] = {clients: [] for clients in args.clients}
    with served(args.run / "checkpoints" / "best_model") as url:
        _, expected = answers_of(url, questions, max(args.clients))
        same = True
        for _ in range(args.repeats):
            for clients in args.clients:
                seconds, answers = answers_of(url, questions, clients)
                rates[clients].append(len(questions) / seconds)
                same &= answers == expected
    print(f"{len(questions)} questions, {args.repeats} repeats; all answers the same: {same}")
    for clients, found in rates.items():
        spread = f"{min(found):.1f} / {statistics.median(found):.1f} / {max(found):.1f}"
        print(f"{clients:4} clients: {spread} answers a second")


if __name__ == "__main__":
    main()
