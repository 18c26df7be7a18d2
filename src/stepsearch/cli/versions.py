"""What a result was made with."""

import platform
from importlib.metadata import version

_PACKAGES = ("stepsearch", "torch", "transformers", "accelerate", "numpy", "matplotlib")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
