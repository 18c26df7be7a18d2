"""Which model is the best, and what its figures are called."""

from stepsearch.training.dev_score import dev_score, under_eval


def test_the_score_is_the_mean_over_datasets_em_before_f1() -> None:
    both = {"eval/musique/em": 0.25, "eval/hotpotqa/em": 0.75, "eval/musique/f1": 0.5, "eval/hotpotqa/f1": 1.0}
    assert dev_score({**both, "eval/musique/searches": 9.0}) == (0.5, 0.75)
    assert dev_score({"em": 0.5, "f1": 0.25}) < dev_score(both)
    assert dev_score({}) == (0.0, 0.0)


def test_every_figure_stands_under_eval_once() -> None:
    assert under_eval({"em": 0.5, "eval/musique/f1": 0.75}) == {"eval/em": 0.5, "eval/musique/f1": 0.75}
