import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest

from stepsearch.chat_endpoint import ChatReply, ReplyCache
from stepsearch.errors import DataError


def reply(text, cached=True):
    return ChatReply(text, 10, 2, "stop", cached)


def test_a_reply_comes_back_as_it_was(tmp_path):
    text = 'Zoë said "\n",\udc80 \x00'
    with ReplyCache(tmp_path / "deep" / "cache.jsonl") as cache:
        cache.put("k", reply(text, cached=False))
        assert cache.get("k") == reply(text)
        assert cache.get("other") is None
    assert ReplyCache(tmp_path / "deep" / "cache.jsonl").get("k") == reply(text)


@pytest.mark.parametrize("kept", range(1, 20, 3))
def test_a_torn_last_line_costs_that_reply_and_no_other(tmp_path, kept):
    path = tmp_path / "cache.jsonl"
    with ReplyCache(path) as cache:
        cache.put("first", reply("a"))
        cache.put("second", reply("b"))
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:kept])
    with ReplyCache(path) as cache:
        assert len(cache) == 1
        cache.put("third", reply("c"))
    again = ReplyCache(path)
    assert [again.get(key) for key in ("first", "second", "third")] == [reply("a"), None, reply("c")]


def test_another_file_is_not_written_into(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"question": "Who?"}]))
    with pytest.raises(DataError, match=r"train.json, line 1 .* name another one"):
        ReplyCache(path)


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        ReplyCache(tmp_path / "file" / "cache.jsonl").put("k", reply("a"))
    with pytest.raises(DataError, match="cannot be read"):
        ReplyCache(tmp_path)


def _fill(path, name):
    with ReplyCache(path) as cache, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: cache.put(f"{name}-{n}", reply("x" * 3000)), range(50)))


def test_threads_and_processes_share_a_file(tmp_path):
    path = tmp_path / "cache.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(ReplyCache(path)) == 100
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
