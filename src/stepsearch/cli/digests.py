"""Short hashes that tell whether files are still the same ones, wherever they have been moved."""

import hashlib
from pathlib import Path

from stepsearch.data.packed_files import open_binary

_MODEL_FILES = ("*.safetensors", "*.bin", "*.json")
# Training changes every part of the weights: both ends of gigabytes tell as much as all of them.
_PART_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Return a hash of a file's content.

    Raises:
        DataError: it cannot be read.
    """
    digest = hashlib.blake2b()
    with open_binary(path) as file:
        while part := file.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()[:16]


def model_digest(folder: Path) -> str | None:
    """Return a hash of the sizes and both ends of a model's files; None where the model is not a local folder."""
    if not folder.is_dir():
        return None
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(path for pattern in _MODEL_FILES for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_PART_BYTES))
            file.seek(max(size - _PART_BYTES, 0))
            digest.update(file.read())
    return digest.hexdigest()
