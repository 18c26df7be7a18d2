from stepsearch.cli.evaluation_results import out_of_room
from stepsearch.evaluation.bootstrap import Interval
from stepsearch.evaluation.figures import Figure, MethodFigures


def stopped(share: float) -> MethodFigures:
    """Return figures of a method of which that share of episodes ended with a full context."""
    figures = {"stop/context_full": Figure(Interval(share, share, share), 20)} if share else {}
    return MethodFigures(figures, {}, {}, (), {}, questions=20, episodes=20, errors=0)


def test_methods_that_had_no_room_are_named() -> None:
    results = {"musique": {"model": stopped(0.0), "search_o1": stopped(1.0), "search_r1": stopped(0.5)}}
    assert out_of_room(results) == [
        "musique, search_o1: 100% of the episodes ended because the context was full (model.max_length)"
    ]
