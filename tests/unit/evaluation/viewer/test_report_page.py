import json
from dataclasses import asdict
from pathlib import Path

import pytest
from report_episodes import embedded, make_episode, make_question, prediction, write_lines, write_predictions

from stepsearch.errors import DataError
from stepsearch.evaluation.viewer import write_report
from stepsearch.evaluation.viewer.report_page import even_share
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import StopReason


def write_logs(folder: Path) -> Path:
    """Write what a training run logs: two steps, and an episode of three tokens."""
    reward = StepSearchRewardCalculator().score(make_episode())
    tokens = {"texts": ["a", "b", "c"], "token_level_rewards": [0.0, 0.0, 1.0], "values": [0.5, None, 0.25],
              "advantages": [1.0, None, -1.0]}  # fmt: skip
    trajectory = {**make_episode().to_json(), "response_ids": [1, 2, 3], "response_mask": [1, 0, 1]}
    logged = {"step": 2, "reward": {**asdict(reward), "total": reward.total}, "trajectory": trajectory}
    write_lines(folder / "trajectories.jsonl", [{**logged, "tokens": tokens}, logged])
    write_lines(folder / "metrics.jsonl", [{"step": 1, "reward/total": 0.5}, {"step": 2, "policy/loss": float("nan")}])
    return folder


def test_a_report_holds_every_run_method_and_episode(tmp_path: Path) -> None:
    write_predictions(tmp_path / "a" / "results", [make_episode(), make_episode(make_question("q2"), answer="Rhone")])
    write_predictions(tmp_path / "a" / "results", [make_episode()], "predictions_musique.direct.jsonl")
    write_predictions(tmp_path / "b" / "results", [make_episode()])
    page = tmp_path / "report.html"
    told: list[int] = []
    write_report(
        page,
        tmp_path / "a" / "results",
        tmp_path / "b" / "results",
        write_logs(tmp_path / "logs"),
        on_episode=told.append,
    )
    index = embedded(page, "index")
    assert [(source["name"], source["run"], source["method"]) for source in index["sources"]] == [
        ("a", "this", ""),
        ("direct", "this", "direct"),
        ("b", "beside", ""),
        ("training", "training", ""),
    ]
    # Source, dataset, question, EM, F1, stop reason, searches, training step.
    assert index["rows"] == [
        [0, 0, 0, 1.0, 1.0, 0, 2, None],
        [0, 0, 1, 0.0, 0.0, 0, 2, None],
        [1, 0, 0, 1.0, 1.0, 0, 2, None],
        [2, 0, 0, 1.0, 1.0, 0, 2, None],
        [3, 0, 0, 1.0, 1.0, 0, 2, 2],
        [3, 0, 0, 1.0, 1.0, 0, 2, 2],
    ]
    assert sum(told) == 6
    details = embedded(page, "episodes-0")
    assert details[4]["tokens"]["values"] == [0.5, None, 0.25]
    assert details[4]["tokens"]["mask"] == [1, 0, 1]
    assert details[5]["tokens"] is None
    assert embedded(page, "metrics") == {
        "steps": [1, 2],
        "curves": {"policy/loss": [None, None], "reward/total": [0.5, None]},
    }


def test_rewards_are_computed_under_the_summarys_settings(tmp_path: Path) -> None:
    cell = {"value": 0.5, "low": 0.25, "high": 0.75, "count": 1}
    summary = {
        "model": "runs/mine/checkpoints/best_model",
        "config": {"reward": {"gamma_key": 0.5, "step_scale": 0.0}},
        "datasets": {"musique": {"figures": {"em": cell}}},
    }
    folder = write_predictions(tmp_path, [make_episode()])
    (folder / "evaluation_summary.json").write_text(json.dumps(summary), encoding="utf-8")
    write_report(tmp_path / "report.html", folder)
    index = embedded(tmp_path / "report.html", "index")
    assert index["runs"][0]["name"] == "mine"
    assert index["columns"][0]["figures"] == {"em": cell}
    # The answer is right, and both reference queries were asked: 1 + 0.5 * 1, and steps do not count.
    assert embedded(tmp_path / "report.html", "episodes-0")[0]["reward"]["total"] == 1.5


def test_what_else_a_line_says_is_kept_and_what_could_not_be_played_is_counted(tmp_path: Path) -> None:
    unplayed = make_episode(make_question("q9"), searches=(), answer=None, stop=StopReason.ERROR)
    lines = [prediction(make_episode(), latency_seconds=1.25), prediction(unplayed, error="timed out")]
    write_lines(tmp_path / "predictions_musique.jsonl", lines)
    write_report(tmp_path / "report.html", tmp_path)
    assert embedded(tmp_path / "report.html", "episodes-0")[0]["more"] == {"latency_seconds": 1.25}
    (column,) = embedded(tmp_path / "report.html", "index")["columns"]
    assert (column["count"], column["errors"]) == (2, 1)
    assert column["figures"]["em"]["value"] == 0.5


def test_details_come_in_pieces(tmp_path: Path) -> None:
    write_predictions(tmp_path, [make_episode(make_question(f"q{n}")) for n in range(120)])
    write_report(tmp_path / "report.html", tmp_path)
    assert [len(embedded(tmp_path / "report.html", f"episodes-{start}")) for start in (0, 50, 100)] == [50, 50, 20]


def test_figures_are_over_all_when_not_all_can_be_read(tmp_path: Path) -> None:
    for name in ("predictions_musique.jsonl", "predictions_musique.direct.jsonl"):
        write_predictions(tmp_path, [make_episode(make_question(f"q{n}")) for n in range(9)], name)
    write_report(tmp_path / "report.html", tmp_path, max_trajectories=7)
    index = embedded(tmp_path / "report.html", "index")
    # Three of each file, on the same questions.
    assert [(row[0], row[2]) for row in index["rows"]] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [(column["count"], column["searches"]) for column in index["columns"]] == [(9, {"2": 9})] * 2


@pytest.mark.parametrize(
    ("sizes", "limit", "share"), [([5, 5], 20, 5), ([2, 10, 10], 12, 5), ([9, 9], 7, 3), ([9, 9, 9], 1, 1), ([0], 5, 1)]
)
def test_files_share_what_can_be_read(sizes: list[int], limit: int, share: int) -> None:
    assert even_share(sizes, limit) == share


class TestBadInput:
    def refused(self, tmp_path: Path, message: str, logs: Path | None = None) -> None:
        page = tmp_path / "report.html"
        with pytest.raises(DataError, match=message):
            write_report(page, tmp_path / "results", training_logs=logs)
        assert not list(tmp_path.glob("report.html*"))

    def test_no_folder_and_no_predictions(self, tmp_path: Path) -> None:
        self.refused(tmp_path, r"results is no folder")
        (tmp_path / "results").mkdir()
        self.refused(tmp_path, r"results has no predictions_<dataset>\.jsonl: name the output folder")

    def test_a_line_that_was_cut_short(self, tmp_path: Path) -> None:
        path = write_predictions(tmp_path / "results", [make_episode()] * 2) / "predictions_musique.jsonl"
        path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
        self.refused(tmp_path, r"predictions_musique\.jsonl, line 2: no whole JSON record")

    def test_a_line_without_its_trajectory(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "results" / "predictions_musique.jsonl", [{"id": "q1"}])
        self.refused(tmp_path, r"line 1: no whole `trajectory` \(KeyError: 'trajectory'\)")

    def test_another_encoding(self, tmp_path: Path) -> None:
        path = write_predictions(tmp_path / "results", []) / "predictions_musique.jsonl"
        path.write_bytes('{"id": "é"}'.encode("latin-1"))
        self.refused(tmp_path, r"predictions_musique\.jsonl cannot be read: it is not UTF-8 text")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", r"evaluation_summary\.json cannot be read \(no JSON from line 1 on\)"),
            ("[]", r"evaluation_summary\.json is no evaluation summary"),
            ('{"datasets": {}, "config": {"reward": {"gama": 1}}}', r"config\.reward is of another version"),
            ('{"datasets": {"musique": {"by_hops": {"2": 1}}}}', r"the figures of musique cannot be read"),
        ],
    )
    def test_a_garbled_summary(self, tmp_path: Path, text: str, message: str) -> None:
        folder = write_predictions(tmp_path / "results", [make_episode()])
        (folder / "evaluation_summary.json").write_text(text, encoding="utf-8")
        self.refused(tmp_path, message)

    def test_training_logs_that_are_not_there_or_not_whole(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "results", [make_episode()])
        self.refused(tmp_path, r"holds neither metrics\.jsonl nor trajectories\.jsonl", tmp_path)
        write_lines(tmp_path / "logs" / "trajectories.jsonl", [{"step": 1, "trajectory": make_episode().to_json()}])
        self.refused(tmp_path, r"line 1: `reward`, `step` or `tokens` is not whole", tmp_path / "logs")

    def test_a_page_that_cannot_be_written(self, tmp_path: Path) -> None:
        folder = write_predictions(tmp_path / "results", [make_episode()])
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot be written"):
            write_report(tmp_path / "file" / "report.html", folder)
