from report_episodes import LYON, PARIS, make_episode, make_question

from stepsearch.evaluation.metrics import score_episode
from stepsearch.evaluation.viewer.figures import distributions, figures_of_episodes, figures_of_summary
from stepsearch.types import StopReason


def test_figures_of_episodes_stand_with_interval_and_count() -> None:
    right = make_episode()
    wrong = make_episode(make_question("q2", hops=3), searches=(("Lyon", (LYON,)), ("Paris", (PARIS,))), answer="Rhone")
    figures = figures_of_episodes([score_episode(right), score_episode(wrong)])
    # Of two questions, a quarter of the resamples is twice the wrong one, and a quarter twice the right one.
    assert figures["figures"]["em"] == {"value": 0.5, "low": 0.0, "high": 1.0, "count": 2}
    assert figures["figures"]["golden_recall"]["value"] == 0.75
    assert {hops: cell["value"] for hops, cell in figures["by_hops"].items()} == {"2": 1.0, "3": 0.0}
    assert [(cell["step"], cell["value"]) for cell in figures["recall_by_step"]] == [(1, 0.25), (2, 0.75)]


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
    assert distributions([score_episode(episode) for episode in episodes]) == {
        "searches": {"0": 1, "2": 2},
        "stops": {"answered": 2, "no_valid_action": 1},
    }
