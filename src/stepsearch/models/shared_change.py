"""Changes of a model that hold only while somebody generates, and are safe with several engines over one model."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn


class SharedChange:
    """A change that the first thread to need it makes and the last one undoes, for each model on its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._undo: WeakKeyDictionary[nn.Module, Callable[[], None]] = WeakKeyDictionary()

    @contextmanager
    def holds(self, model: nn.Module, make: Callable[[], Callable[[], None]]) -> Generator[None]:
        """Let the change hold meanwhile.

        Args:
            model: whose change it is.
            make: makes it, and returns what undoes it.
        """
        with self._lock:
            holders = self._holders.get(model, 0)
            if not holders:
                self._undo[model] = make()
            self._holders[model] = holders + 1
        try:
            yield
        finally:
            with self._lock:
                self._holders[model] -= 1
                if not self._holders[model]:
                    self._undo.pop(model)()
