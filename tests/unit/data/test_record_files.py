"""What is wrong with a line of JSON, and where: one line number, one column, and how to mend it."""

import re
from pathlib import Path

import pytest

from stepsearch.data.record_files import read_records
from stepsearch.errors import DataError


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n{}\n"])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "expecting property name enclosed in double quotes at column 2"),
        ('{"text": "Kim', "unterminated string starting at column 10"),
        ('{"text": "Kim"} {}', "extra data at column 17"),
        ('{"text" "Kim"}', "expecting ':' delimiter at column 9"),
    ],
)
def test_a_broken_line_is_named_once(line: str, problem: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_bytes(f'{{"text": "Max"}}\n{line}{end}'.encode())
    words = re.escape(f"{path}, line 2 is not whole JSON ({problem}): mend the record, which has to stand whole on its")
    with pytest.raises(
        DataError, match=f"^{words} line or in one list with all others, or get the file again if it was cut off$"
    ):
        list(read_records(path))
