"""One table: what was measured here with this model, corpus and retriever, and below it the published rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from stepsearch.evaluation.published import SETTING, PublishedResult, published_beside

Figure = Mapping[str, Any]
"""`value`, `low`, `high` (95 %) and `count` of one figure."""


def baselines_table(
    measured: Mapping[str, Mapping[str, Mapping[str, Figure]]],
    model: str,
    differences: Mapping[str, Mapping[str, Figure]] | None = None,
) -> Table:
    """Return EM / F1 in percent, a row per method and a column per dataset.

    Args:
        measured: by dataset and method, the figures `em` and `f1`; a method may lack on a dataset.
        model: name of the model measured; published rows of another variant than its own are left out.
        differences: by dataset and method, EM of the method minus that of the model on the same questions.
    """
    differences = differences or {}
    groups = _grouped(published_beside(model))
    sources = list(dict.fromkeys(source for _, source in groups))
    notes = [f"published: {SETTING}", *(f"({number}) {source}" for number, source in enumerate(sources, 1))]
    table = Table(title=f"EM (95 % interval) / F1 in percent: {model}", title_justify="left")
    table.caption, table.caption_justify = "; ".join(notes) if groups else None, "left"
    table.add_column("", no_wrap=True)
    for dataset, methods in measured.items():
        table.add_column(f"{dataset} (of {_count(methods)})", justify="right")
    for method in dict.fromkeys(method for methods in measured.values() for method in methods):
        cells = (_measured_cell(methods.get(method), _count(methods)) for methods in measured.values())
        beside = (_difference(differences.get(dataset, {}).get(method)) for dataset in measured)
        table.add_row(method, *(cell + added for cell, added in zip(cells, beside, strict=True)))
    for (variant, source), rows in groups.items():
        table.add_section()
        table.add_row(f"{variant}, published ({sources.index(source) + 1})")
        for row in rows:
            table.add_row(f"  {row.method}", *(_published_cell(row, dataset) for dataset in measured))
    return table


def _grouped(rows: Sequence[PublishedResult]) -> dict[tuple[str, str], list[PublishedResult]]:
    """Return the rows by variant and source: only within a group is like beside like."""
    groups: dict[tuple[str, str], list[PublishedResult]] = {}
    for row in sorted(rows, key=lambda row: (row.variant.name, row.source)):
        groups.setdefault((row.variant.name, row.source), []).append(row)
    return groups


def _count(methods: Mapping[str, Mapping[str, Figure]]) -> int:
    """Return over how many questions the first method was measured."""
    return next((figures["em"]["count"] for figures in methods.values()), 0)


def _measured_cell(figures: Mapping[str, Figure] | None, usual_count: int) -> str:
    """Return EM with its interval and F1, and over how many questions where that is not the usual number."""
    if figures is None:
        return ""
    em, f1 = figures["em"], figures["f1"]
    interval = "" if em.get("low") is None else f" ({100 * em['low']:.1f}–{100 * em['high']:.1f})"
    count = "" if em["count"] == usual_count else f" of {em['count']}"
    return f"{100 * em['value']:.1f}{interval} / {100 * f1['value']:.1f}{count}"


def _difference(figure: Figure | None) -> str:
    """Return a paired difference on a line of its own; nothing where there is none."""
    if figure is None or figure.get("value") is None:
        return ""
    interval = "" if figure.get("low") is None else f" ({100 * figure['low']:+.1f} – {100 * figure['high']:+.1f})"
    return f"\nΔEM {100 * figure['value']:+.1f}{interval}"


def _published_cell(row: PublishedResult, dataset: str) -> str:
    if dataset not in row.scores:
        return ""
    em, f1 = row.scores[dataset]
    return f"{em:.1f}" if f1 is None else f"{em:.1f} / {f1:.1f}"
