"""What long work calls with how far it is, wherever it runs and whoever shows it."""

from typing import Protocol


class Advance(Protocol):
    """What work calls with how much of itself it has just done, and a few words on how it stands."""

    def __call__(self, amount: float, note: str = "") -> None: ...


def unseen(amount: float, note: str = "") -> None:
    """Show nothing."""
