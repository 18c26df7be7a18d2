"""`evaluate` with a model behind an OpenAI-compatible endpoint on loopback."""

import json
from pathlib import Path

import pytest
from chat_server import Body, ChatServer

from stepsearch.cli.main import main
from stepsearch.evaluation.baselines import BASELINES


def answer(body: Body) -> str:
    """Search once where there are tags, else name a town."""
    messages = body["messages"]
    if len(messages) == 1 and "<search>" in messages[0]["content"]:
        return "<search>the town"
    if messages[0]["content"].endswith("Answer:"):
        return "Tolvik"
    return "<answer>Tolvik" if "<answer>" in messages[0]["content"] else "So the answer is: Tolvik."


@pytest.mark.slow
def test_evaluating_a_model_behind_an_endpoint(world: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    server = ChatServer(answer)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    flags = ("--datasets", "musique", "--musique-dir", str(world / "raw"), "--output-dir", str(tmp_path))
    asked = ("--model-path", "openai:test", "--max-questions", "3", "--compare-baselines")
    try:
        assert main(["evaluate", *flags, *asked]) == 0
        paid = len(server.requests)
        for name in ("evaluation.json", "evaluation_summary.json"):
            (tmp_path / "results" / name).unlink()
        assert main(["evaluate", *flags, *asked]) == 0
        assert len(server.requests) == paid  # The second time, the replies are there.
    finally:
        server.stop()

    results = json.loads((tmp_path / "results" / "evaluation_summary.json").read_text(encoding="utf-8"))["datasets"][
        "musique"
    ]
    assert results["count"] == 3
    assert results["searches_per_question"] == 1.0
    assert list(results["methods"]) == list(BASELINES)
    for name in ("predictions_musique.jsonl", *(f"predictions_musique.{method}.jsonl" for method in BASELINES)):
        lines = [json.loads(line) for line in (tmp_path / "results" / name).read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 3
        assert {line["prediction"] for line in lines} == ({None} if "search_o1" in name else {"Tolvik"})
    assert "search_r1" in capsys.readouterr().out
