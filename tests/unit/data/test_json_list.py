import io
import json
import tracemalloc

import pytest

from stepsearch.data import json_list
from stepsearch.data.json_list import read_list
from stepsearch.errors import DataError


def values(content):
    return [
        value for value, _ in read_list(io.BytesIO(content if isinstance(content, bytes) else content.encode()), "f")
    ]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " [ ] \n",
        "[1]",
        '[{"a": "ä]"}, {"b": [1, {"c": "\\"}"}]}]',
        '\n[\n{"a": 1}\n,\n{"b": 2}\n]\n',
        '["𝒳", null]',
    ],
)
def test_items_are_those_of_the_whole_whatever_the_parts(text, chunk, monkeypatch):
    monkeypatch.setattr(json_list, "_CHUNK", chunk)
    assert values(text) == json.loads(text)


def test_the_text_of_an_item():
    assert list(read_list(io.BytesIO(b'[ {"a": 1} ,[2]]'), "f")) == [({"a": 1}, '{"a": 1}'), ([2], "[2]")]


def test_byte_order_mark():
    assert values(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},', "expecting value at line 1, column 11"),
        ('[{"a": 1}', "expecting ']' at line 1, column 10"),
        ('[{"a": 1}\n {"b": 2}]', "expecting ']' at line 2, column 2"),
        ('[{"a": 1},\n {"b', "unterminated string starting at line 2, column 3"),
        ("[1] [2]", "extra data at line 1, column 5"),
        ("{}", r"expecting '\[' at line 1, column 1"),
    ],
)
def test_where_it_ends_or_breaks(text, message, chunk, monkeypatch):
    monkeypatch.setattr(json_list, "_CHUNK", chunk)
    with pytest.raises(DataError, match=rf"f is not whole JSON \({message}\): mend it there"):
        values(text)


def test_other_encodings():
    with pytest.raises(DataError, match="f is not UTF-8 text"):
        values('["é"]'.encode("latin-1"))


def test_a_long_list_never_passes_through_memory():
    item = json.dumps({"text": "word " * 2_000})
    content = f"[{','.join([item] * 1_000)}]".encode()
    tracemalloc.start()
    try:
        assert sum(len(value["text"]) for value, _ in read_list(io.BytesIO(content), "f")) == 10_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The stream itself is not counted; the text is held twice while it grows.
    assert peak < 6_000_000
