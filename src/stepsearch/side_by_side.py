"""Independent parts of a computation in several threads, with their results in a fixed order.

Threads share the weights and cost no copies, and torch and numpy let others run while they compute. What a part does is
its own affair: gradient mode and autocast are those of its thread, not of the caller's.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")


def side_by_side(parts: Sequence[Callable[[], Result]], workers: int) -> list[Result]:
    """Return the result of each part, in order; at most `workers` of them run at the same time.

    With one worker the parts run in the calling thread, one after the other.

    Raises:
        Exception: what the first of the failed parts raised, when all parts have ended.
    """
    if workers == 1 or len(parts) < 2:
        return [part() for part in parts]
    with ThreadPoolExecutor(min(workers, len(parts)), thread_name_prefix="worker") as pool:
        running = [pool.submit(part) for part in parts]
        wait(running)
    return [future.result() for future in running]
