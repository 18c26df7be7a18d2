"""Two trees of settings as one."""

import copy
from collections.abc import Mapping
from typing import Any


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new tree with the values of both; where both have one, that of `over`."""
    tree = copy.deepcopy(dict(base))
    for name, value in over.items():
        below = tree.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            tree[name] = merged(below, value)
        else:
            tree[name] = value
    return tree
