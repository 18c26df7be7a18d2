import pytest
from report_episodes import LYON, PARIS, SEINE, make_episode, make_question

from stepsearch.evaluation.viewer.figures import distributions, figures_of_episodes, figures_of_summary, observe
from stepsearch.types import StopReason


def test_figures_of_episodes_stand_with_interval_and_count() -> None:
    right = make_episode()
    wrong = make_episode(make_question(hops=3), searches=(("Lyon", (LYON,)), ("Paris", (PARIS,))), answer="Rhone")
    figures = figures_of_episodes([observe(right, 1.0, 1.0), observe(wrong, 0.0, 0.25)])
    em, f1, recall = (figures["figures"][name] for name in ("em", "f1", "golden_recall"))
    assert (em["value"], em["count"]) == (0.5, 2)
    # Wilson's interval of 1 in 2.
    assert (em["low"], em["high"]) == (pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4))
    # The standard deviation of 1 and 1/4 is 0.5303, of their mean 0.375.
    assert (f1["value"], f1["high"]) == (0.625, pytest.approx(0.625 + 1.96 * 0.375))
    assert recall["value"] == 0.75
    assert {hops: cell["value"] for hops, cell in figures["by_hops"].items()} == {"2": 1.0, "3": 0.0}
    assert [(cell["step"], cell["value"]) for cell in figures["recall_by_step"]] == [(1, 0.25), (2, 0.75)]


def test_recall_goes_on_after_an_episode_has_stopped() -> None:
    short = make_episode(searches=(("both", (PARIS, SEINE)),))
    long = make_episode(searches=(("Lyon", (LYON,)), ("Lyon", (LYON,))))
    none = make_episode(make_question(golden=()))
    cells = figures_of_episodes([observe(episode, 0.0, 0.0) for episode in (short, long, none)])["recall_by_step"]
    assert [(cell["value"], cell["count"]) for cell in cells] == [(0.5, 2), (0.5, 2)]


def test_a_summary_with_figures_is_taken_as_it_is() -> None:
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 100}
    entry = {
        "em": 0.9,
        "figures": {"em": cell, "cover_em": cell, "latency": None},
        "by_hops": {"2": {"em": cell}, "3": {"f1": cell}},
        "by_kind": {"bridge": {"em": cell}},
        "recall_by_step": [{"step": 1, **cell}],
        "difference": {"em": cell, "f1": None},
    }
    assert figures_of_summary(entry) == {
        "figures": {"em": cell, "cover_em": cell},
        "by_hops": {"2": cell},
        "by_kind": {"bridge": cell},
        "recall_by_step": [{"step": 1, **cell}],
        "difference": {"em": cell},
    }


def test_how_many_searches_and_why_they_stopped() -> None:
    episodes = [make_episode(), make_episode(), make_episode(searches=(), answer=None, stop=StopReason.NO_VALID_ACTION)]
    assert distributions([observe(episode, 0.0, 0.0) for episode in episodes]) == {
        "searches": {"0": 1, "2": 2},
        "stops": {"answered": 2, "no_valid_action": 1},
    }


def test_a_summary_with_flat_figures_has_an_interval_of_em_alone() -> None:
    entry = {
        "em": 0.5, "f1": 0.6, "count": 4, "em_interval": [0.2, 0.8], "redundancy": None,
        "golden_recall": 0.7, "golden_recall_count": 3, "em_by_hops": {"2": 1.0}, "count_by_hops": {"2": 2},
    }  # fmt: skip
    figures = figures_of_summary(entry)
    assert figures["figures"] == {
        "em": {"value": 0.5, "low": 0.2, "high": 0.8, "count": 4},
        "f1": {"value": 0.6, "low": None, "high": None, "count": 4},
        "golden_recall": {"value": 0.7, "low": None, "high": None, "count": 3},
    }
    assert figures["by_hops"]["2"]["value"] == 1.0
    assert figures["by_hops"]["2"]["low"] == pytest.approx(0.3424, abs=1e-4)
