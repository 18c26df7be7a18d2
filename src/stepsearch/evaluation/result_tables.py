"""The figures of an evaluation as tables: for the terminal, and as Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from stepsearch.evaluation.bootstrap import Interval
from stepsearch.evaluation.figures import Figure, Figures, MethodFigures
from stepsearch.evaluation.paired import PairedResult, p_in_words

LABELS = {
    "em": "EM",
    "f1": "F1",
    "cover_em": "cover EM",
    "judged": "right by the judge",
    "searches_per_question": "searches per question",
    "golden_recall": "golden recall",
    "all_golden": "all golden documents found",
    "over_search": "over-search",
    "superfluous_searches": "superfluous searches",
    "under_search": "under-search",
    "new_golden_searches": "searches that found new gold",
    "redundant_searches": "redundant searches",
    "redundancy": "redundant documents",
    "failed_searches": "failed searches",
    "format_rate": "format rate",
    "sampled_tokens": "sampled tokens",
    "observed_tokens": "observed tokens",
    "latency_seconds": "seconds per question",
}
_METHOD = "95 % intervals: bootstrap over questions, Wilson's of a share of questions that is 0 or 1"
INTERVALS = f"{_METHOD}; in brackets how many questions where not all"
COMPARED = ("em", "f1", "cover_em", "searches_per_question", "golden_recall")
_PERCENT = ("em", "f1", "cover_em", "golden_recall")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table before it has a form."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def to_table(self) -> Table:
        """Return it for a terminal."""
        table = Table(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left", no_wrap=not index)
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """Return it as Markdown."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.head, rule, *self.rows)]
        return "\n".join([f"## {self.title}\n", *lines, *(["", f"{self.note}."] if self.note else []), ""])


def figures_sheet(title: str, columns: Mapping[str, MethodFigures]) -> Sheet:
    """Return a row per figure and a column per evaluation; a figure that none has is left out."""
    cells = {column: _cells(measured) for column, measured in columns.items()}
    labels = _in_order([list(of) for of in cells.values()])
    rows = [[label, *(of.get(label, "") for of in cells.values())] for label in labels]
    return Sheet(title, ["", *columns], rows, INTERVALS)


def methods_sheet(dataset: str, methods: Mapping[str, MethodFigures]) -> Sheet:
    """Return a row per method: its figures and, but for the first, the paired differences to the first."""
    reference = next(iter(methods))
    names = [name for name in COMPARED if any(_defined(of.figures[name]) for of in methods.values())]
    differences = [name for name in names if name in ("em", "f1")]
    head = [dataset, *(_head(name) for name in names), *(f"{LABELS[n]}, difference" for n in differences)]
    rows = [
        [
            name,
            *(_scaled(of.figures[figure].interval, figure) for figure in names),
            *(_scaled(of.difference[n].interval, n, "+") if of.difference else "" for n in differences),
        ]
        for name, of in methods.items()
    ]
    questions = methods[reference].questions
    note = f"{questions:,} questions; {_METHOD}; differences to {reference}, paired over the questions"
    return Sheet(f"Methods on {dataset}", head, rows, note)


def paired_sheet(name: str, result: PairedResult, first: str, second: str) -> Sheet:
    """Return a row per figure: both evaluations' and the difference."""
    shown = [figure for figure in result.second.difference if _defined(result.second.difference[figure])]
    rows = [
        [
            _label(figure),
            *(_with_interval(of.figures[figure].interval) for of in (result.first, result.second)),
            _with_interval(result.second.difference[figure].interval, "+"),
        ]
        for figure in shown
    ]
    left_out = f"; left out: {result.only_first} that only A has, {result.only_second} that only B has"
    note = (
        f"A is {first}, B is {second}; {result.first.questions} questions that both have"
        f"{left_out if result.only_first or result.only_second else ''}; {_METHOD}; "
        f"differences paired; EM differs by chance alone with {p_in_words(result.p_value)} (permutation test)"
    )
    return Sheet(f"{name}: B minus A", ["", "A", "B", "B minus A"], rows, note)


def _cells(measured: MethodFigures) -> dict[str, str]:
    """Return what a column says, by the label of its row."""
    figures, total = measured.figures, measured.questions
    repeats = [name for name in figures if "@" in name]
    answers = ["em", "f1", "cover_em", "judged", *repeats]
    groups = [(f"EM, {hops} hops", of) for hops, of in measured.by_hops.items()]
    groups += [(f"EM, {kind}", of) for kind, of in measured.by_kind.items()]
    return {
        "questions": f"{total:,}",
        **({"episodes": f"{measured.episodes:,}"} if measured.episodes != total else {}),
        **({"episodes that could not be played": f"{measured.errors:,}"} if measured.errors else {}),
        **_rows(figures, answers, total),
        **{label: _cell(of["em"], total) for label, of in groups},
        **_rows(figures, [name for name in figures if name not in answers], total),
    }


def _rows(figures: Figures, names: Sequence[str], total: int) -> dict[str, str]:
    return {_label(name): _cell(figures[name], total) for name in names if _defined(figures[name])}


def _label(name: str) -> str:
    return LABELS.get(name) or name.replace("stop/", "ended: ").replace("_", " ")


def _cell(figure: Figure, total: int) -> str:
    return _with_interval(figure.interval) + ("" if figure.count == total else f" ({figure.count:,})")


def _with_interval(interval: Interval, sign: str = "") -> str:
    """Return a figure, and its interval if it has one; signed ones are differences."""
    if math.isnan(interval.low):
        return _number(interval.value, sign)
    value, low, high = (_number(number, sign) for number in (interval.value, interval.low, interval.high))
    return f"{value}  {low}{' to ' if sign else '–'}{high}"


def _scaled(interval: Interval, name: str, sign: str = "") -> str:
    """Return a figure in percent where it is a share; a dash where there is none."""
    if math.isnan(interval.value):
        return "–"
    scale, decimals = (100, 1) if name in _PERCENT else (1, 2)
    value, low, high = (f"{scale * n:{sign}.{decimals}f}" for n in (interval.value, interval.low, interval.high))
    return f"{value}  {low}{' to ' if sign else '–'}{high}"


def _head(name: str) -> str:
    return f"{LABELS[name]}, %" if name in _PERCENT else LABELS[name]


def _number(value: float, sign: str = "") -> str:
    """Return three digits that count, without the zero before them, so that many columns fit side by side."""
    if abs(value) < 1:
        return f"{value:{sign}.3f}".replace("0.", ".", 1)
    return f"{value:{sign}.2f}" if abs(value) < 100 else f"{value:{sign}.0f}"


def _defined(figure: Figure) -> bool:
    return not math.isnan(figure.interval.value)


def _in_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all labels once, so that one which a later list has alone stands where it stands there."""
    ordered: list[str] = []
    for labels in lists:
        place = 0
        for label in labels:
            if label in ordered:
                place = ordered.index(label) + 1
            else:
                ordered.insert(place, label)
                place += 1
    return ordered
