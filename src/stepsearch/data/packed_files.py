"""Files as bytes, packed with gzip or not; one that cannot be read is a complaint that names it."""

import gzip
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from stepsearch.errors import DataError

_GZIP_START = b"\x1f\x8b"


@contextmanager
def open_unpacked(path: Path) -> Generator[BinaryIO]:
    """Give the content of a file, unpacked where it starts as gzip does, whatever its name.

    Raises:
        DataError: the file cannot be read, or its packing is cut off or damaged.
    """
    with open_binary(path) as file:
        packed = file.read(len(_GZIP_START)) == _GZIP_START
        file.seek(0)
        if not packed:
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is no whole gzip file ({error}): cut off or damaged, get it again") from None


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        DataError: the file is missing, a folder, or not readable.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name the file in it") from None
    except PermissionError as error:
        raise not_permitted(error) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def not_permitted(error: PermissionError) -> DataError:
    """Return the error for a file that is there and may not be read, so that nobody makes it anew."""
    return DataError(f"{error.filename} cannot be read: permission denied; make it readable for the user who runs this")


def decode_utf8(raw: bytes, where: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark.

    Raises:
        DataError: the bytes are not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}): save the file as UTF-8") from None


@contextmanager
def packing(path: Path, beside: Path) -> Generator[BinaryIO]:
    """Give what writes to the file `beside`, packed where the name of `path` ends in `.gz`."""
    with beside.open("wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        # No file name and no time inside: equal content gives equal files.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
            yield cast(BinaryIO, packed)
