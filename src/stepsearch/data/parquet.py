"""Parquet files as records, read and written a few hundred rows at a time."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from stepsearch.data.optional_packages import import_optional
from stepsearch.data.packed_files import open_binary
from stepsearch.data.records import Record
from stepsearch.data.whole_files import replacing
from stepsearch.errors import DataError, one_line

_ROWS = 512
# A type's name in `pyarrow`, a list of one type, or the fields of a struct.
Shape = str | list["Shape"] | Mapping[str, "Shape"]


def read_parquet(path: Path) -> Iterator[Record]:
    """Yield the rows of a parquet file.

    Raises:
        DataError: the file is missing, damaged or empty, or pyarrow is not installed.
    """
    arrow, parquet = _arrow(), import_optional("pyarrow.parquet", "parquet")
    number = 0
    with open_binary(path) as file:
        try:
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, f"{path}, row {number}")
        except (arrow.ArrowException, OSError) as error:
            reason = one_line(error)
            raise DataError(f"{path} is no whole parquet file ({reason}): cut off or damaged, get it again") from None
    if not number:
        raise DataError(f"{path} is empty: it holds no row")


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], shape: Mapping[str, Shape]) -> int:
    """Write rows in one piece; returns how many.

    Args:
        path: replaced where it is there.
        rows: one mapping a row; what a row lacks is null.
        shape: the columns and their types, so that they do not depend on which rows have what.

    Raises:
        DataError: the file cannot be written, or pyarrow is not installed.
    """
    arrow, parquet = _arrow(), import_optional("pyarrow.parquet", "parquet")
    schema = arrow.schema([(name, _type(arrow, column)) for name, column in shape.items()])
    count = 0
    with replacing(path) as beside, parquet.ParquetWriter(beside, schema) as writer:
        remaining = iter(rows)
        while batch := list(islice(remaining, _ROWS)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _arrow() -> Any:
    return import_optional("pyarrow", "parquet")


def _type(arrow: Any, shape: Shape) -> Any:
    if isinstance(shape, str):
        return getattr(arrow, shape)()
    if isinstance(shape, list):
        return arrow.list_(_type(arrow, shape[0]))
    return arrow.struct([(name, _type(arrow, field)) for name, field in shape.items()])
