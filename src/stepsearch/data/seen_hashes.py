"""Which of many millions of keys have been seen, in about 20 bytes each."""

from array import array
from hashlib import blake2b

_START_SLOTS = 1 << 12
_EMPTY = 0


class SeenHashes:
    """A set of 64-bit hashes: an open-addressing table of 8-byte slots, at most three quarters full.

    21 million keys take 268 MB; a Python set of their ids takes ten times as much. Two different keys share a hash with
    a chance of n^2 / 2^65, about one in 80,000 for 21 million keys.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _START_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes) -> bool:
        """Add a key; returns whether it is new."""
        # 0 marks an empty slot, so the one hash of that value counts as 1.
        value = int.from_bytes(blake2b(key, digest_size=8).digest(), "little") or 1
        if not self._put(value):
            return False
        self._count += 1
        if 4 * self._count > 3 * len(self._slots):
            self._grow()
        return True

    def _put(self, value: int) -> bool:
        slots, mask = self._slots, len(self._slots) - 1
        place = value & mask
        while (held := slots[place]) != _EMPTY:
            if held == value:
                return False
            place = (place + 1) & mask
        slots[place] = value
        return True

    def _grow(self) -> None:
        held = self._slots
        self._slots = array("Q", bytes(16 * len(held)))
        for value in held:
            if value != _EMPTY:
                self._put(value)
