"""Evaluations side by side as a table."""

from collections.abc import Iterable, Mapping

from rich.table import Table

from stepsearch.evaluation.metrics import EvaluationMetrics

_HEAD = ("questions", "EM", "EM, 95 % interval", "F1")
_TAIL = (
    "searches per question",
    "golden recall",
    "redundant documents",
    "redundant searches",
    "searches that found new gold",
    "failed searches",
    "format rate",
)


def figures_table(title: str, columns: Mapping[str, EvaluationMetrics]) -> Table:
    """Return a table with one column per evaluation and one row per figure."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    all_hops = sorted({hops for metrics in columns.values() for hops in metrics.em_by_hops})
    cells = {column: dict(_figures(metrics)) for column, metrics in columns.items()}
    for column in columns:
        table.add_column(column, justify="right")
    for label in (*_HEAD, *(_hops_label(hops) for hops in all_hops), *_TAIL):
        if any(label in figures for figures in cells.values()):
            table.add_row(label, *(figures.get(label, "") for figures in cells.values()))
    return table


def _hops_label(hops: int) -> str:
    return f"EM, {hops} hops"


def _figures(metrics: EvaluationMetrics) -> Iterable[tuple[str, str]]:
    """Yield what of `_HEAD`, the hops and `_TAIL` the metrics hold."""
    low, high = metrics.em_interval
    yield "questions", str(metrics.count)
    yield "EM", f"{metrics.em:.3f}"
    yield "EM, 95 % interval", f"{low:.3f} – {high:.3f}"
    yield "F1", f"{metrics.f1:.3f}"
    for hops, em in metrics.em_by_hops.items():
        yield _hops_label(hops), f"{em:.3f} (of {metrics.count_by_hops[hops]})"
    yield "searches per question", f"{metrics.searches_per_question:.2f}"
    if metrics.golden_recall is not None:
        yield "golden recall", f"{metrics.golden_recall:.3f} (of {metrics.golden_recall_count})"
    if metrics.redundancy is not None:
        yield "redundant documents", f"{metrics.redundancy:.3f} (of {metrics.redundancy_count})"
    if metrics.search.queries:
        share = metrics.search.redundant / metrics.search.queries
        yield "redundant searches", f"{share:.3f} (of {metrics.search.queries})"
    if metrics.search.success_rate is not None:
        yield "searches that found new gold", f"{metrics.search.success_rate:.3f} (of {metrics.search.judged})"
    if metrics.search.failed:
        yield "failed searches", str(metrics.search.failed)
    yield "format rate", f"{metrics.format_rate:.3f}"
