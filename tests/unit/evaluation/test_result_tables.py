"""How figures look in tables."""

from stepsearch.evaluation.bootstrap import Interval
from stepsearch.evaluation.figures import Figure, MethodFigures
from stepsearch.evaluation.result_tables import figures_sheet, methods_sheet

NOTHING = Figure(Interval(*(float("nan"),) * 3), 0)


def method(em: float, hops: dict[int, float] | None = None, errors: int = 0, difference: float | None = None):
    names = ("em", "f1", "cover_em", "judged", "golden_recall", "searches_per_question", "stop/answered")
    figures = {name: Figure(Interval(em, em - 0.1, em + 0.1), 50) for name in names} | {"judged": NOTHING}
    figures["searches_per_question"] = Figure(Interval(2.5, 2.25, 2.75), 48)
    figures["observed_tokens"] = Figure(Interval(812.4, 800, 824.9), 50)
    by_hops = {n: {"em": Figure(Interval(value, 0, 1), 7)} for n, value in (hops or {}).items()}
    changed = Figure(Interval(difference or 0, -0.05, 0.05), 50)
    differences = {} if difference is None else dict.fromkeys(("em", "f1"), changed)
    return MethodFigures(figures, by_hops, {}, (), differences, 50, 50, errors)


def test_a_row_per_figure_that_there_is() -> None:
    sheet = figures_sheet("Evaluation", {"musique": method(0.5, {2: 0.25}), "2wiki": method(0.9, {4: 1.0}, errors=2)})
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["questions"] == ["50", "50"]
    assert rows["EM"] == [".500  .400–.600", ".900  .800–1.00"]
    assert rows["EM, 2 hops"] == [".250  .000–1.00 (7)", ""]
    assert rows["EM, 4 hops"] == ["", "1.00  .000–1.00 (7)"]
    assert rows["searches per question"] == ["2.50  2.25–2.75 (48)", "2.50  2.25–2.75 (48)"]
    assert rows["observed tokens"][0] == "812  800–825"
    assert rows["ended: answered"][0] == ".500  .400–.600"
    assert rows["episodes that could not be played"] == ["", "2"]
    assert "right by the judge" not in rows
    assert list(rows)[-1] == "observed tokens"


def test_methods_beside_their_differences() -> None:
    sheet = methods_sheet("musique", {"model": method(0.5), "direct": method(0.25, difference=-0.25)})
    assert sheet.head[:2] == ["musique", "EM, %"]
    assert sheet.head[-2:] == ["EM, difference", "F1, difference"]
    assert sheet.rows[0][:2] == ["model", "50.0  40.0–60.0"]
    assert sheet.rows[0][-1] == ""
    assert sheet.rows[1][-1] == "-25.0  -5.0 to +5.0"
    markdown = sheet.to_markdown().splitlines()
    assert markdown[0] == "## Methods on musique"
    assert markdown[3] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
