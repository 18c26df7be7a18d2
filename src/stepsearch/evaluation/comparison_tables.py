"""A comparison as tables: for the terminal, and as Markdown."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from rich.table import Table

from stepsearch.evaluation.bootstrap import Interval
from stepsearch.evaluation.comparison import BEFORE, LEARNING, TARGETS, Comparison, FigureOverSeeds

LABELS = {
    "em": "EM",
    "em_sampled": "EM sampled at T = 1",
    "f1": "F1",
    "golden_recall": "golden recall",
    "searches_per_question": "searches per question",
    "redundancy": "redundant documents",
    "format_rate": "format rate",
    LEARNING: "mean dev EM in training",
}
Rows = list[list[str]]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return the tables for a terminal."""
    tables: list[Table] = []
    for title, head, rows in _sections(comparison, "\n"):
        table = Table(title=title, title_justify="left", show_lines=any("\n" in cell for cell in rows[0]))
        for index, name in enumerate(head):
            table.add_column(name, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def comparison_markdown(comparison: Comparison, settings: Mapping[str, Sequence[str]]) -> str:
    """Return the report as Markdown.

    Args:
        comparison: what is reported.
        settings: of every method, as the user wrote them.
    """
    parts = ["# Comparison\n"]
    parts += [
        f"- `{name}`: {', '.join(f'`{s}`' for s in of) or 'the settings as given'}" for name, of in settings.items()
    ]
    parts.append("")
    for title, head, rows in _sections(comparison, ", "):
        parts += [f"## {title}\n", _line(head), _line(["---", *["---:"] * (len(head) - 1)]), *map(_line, rows), ""]
    parts += [*(f"{note}." for note in notes(comparison)), "", "![Learning curves](curves.png)", ""]
    return "\n".join(parts)


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader of the tables has to know."""
    found = [
        comparison.covers,
        "Figures are of each run's best checkpoint by dev EM; EM is at evaluation.temperature unless said",
    ]
    if len(comparison.seeds) > 1:
        found.append("Mean dev EM in training is over all steps; its intervals are a bootstrap over seeds alone")
    if not comparison.paired:
        found.append("The methods did not answer the same questions: only mean dev EM in training is compared")
    return found


def _sections(comparison: Comparison, between: str) -> list[tuple[str, list[str], Rows]]:
    """Return title, head and rows of every table; `between` stands between a figure and its interval."""
    columns = [*([BEFORE] if BEFORE in comparison.figures else []), *comparison.methods]
    questions = f"{comparison.questions[0]} questions a seed"
    figures = ("Mean over seeds, 95 % interval", ["", *columns], _rows(comparison.figures, columns, between, _figure))
    per_seed = (f"EM by seed, of {questions}", ["seed", *columns], _seed_rows(comparison, columns))
    steps = (
        "Median of the first evaluated step with that dev EM (seeds that came there)",
        ["", *comparison.methods],
        _step_rows(comparison),
    )
    sections = [figures, per_seed, steps]
    if len(comparison.methods) > 1:
        others = list(comparison.methods[1:])
        title = f"Difference to {comparison.reference}, paired, 95 % interval"
        sections.insert(1, (title, ["", *others], _rows(comparison.differences, others, between, _signed)))
    return sections


def _rows(
    figures: Mapping[str, Mapping[str, FigureOverSeeds]],
    columns: Sequence[str],
    between: str,
    render: Callable[[Interval, str], str],
) -> Rows:
    found = dict.fromkeys(name for column in columns for name in figures[column])
    return [
        [
            LABELS.get(name) or f"EM, {name.split('_')[1]} hops",
            *(render(figures[c][name].interval, between) if name in figures[c] else "" for c in columns),
        ]
        for name in found
    ]


def _figure(interval: Interval, between: str) -> str:
    if math.isnan(interval.value):
        return "–"
    if math.isnan(interval.low):
        return _short(interval.value)
    return between.join((_short(interval.value), f"{_short(interval.low)}–{_short(interval.high)}"))


def _signed(interval: Interval, between: str) -> str:
    if math.isnan(interval.value):
        return "–"
    if math.isnan(interval.low):
        return _short(interval.value, "+")
    value, low, high = (_short(number, "+") for number in (interval.value, interval.low, interval.high))
    return between.join((value, f"{low} to {high}"))


def _short(number: float, sign: str = "") -> str:
    """Return three decimals without the zero before them, so that many methods fit side by side."""
    return f"{number:{sign}.3f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:{sign}.2f}"


def _seed_rows(comparison: Comparison, columns: Sequence[str]) -> Rows:
    values = [comparison.figures[column]["em"].per_seed for column in columns]
    rows = [[str(seed), *(_short(of[i]) for of in values)] for i, seed in enumerate(comparison.seeds)]
    rows.append(["median", *(_short(statistics.median(of)) for of in values)])
    rows.append(["lowest–highest", *(f"{_short(min(of))}–{_short(max(of))}" for of in values)])
    return rows


def _step_rows(comparison: Comparison) -> Rows:
    return [
        [f"{target:.1f}", *(_steps(comparison.steps_to[method][target]) for method in comparison.methods)]
        for target in TARGETS
    ]


def _steps(steps: Sequence[int | None]) -> str:
    """Return the median; a seed that never came there counts as later than any."""
    reached = sum(step is not None for step in steps)
    middle = statistics.median_high([math.inf if step is None else step for step in steps])
    return f"{'never' if math.isinf(middle) else f'{middle:.0f}'} ({reached} of {len(steps)})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
