"""The audit for people."""

from collections.abc import Sequence

from rich.table import Table

from stepsearch.preparation.audit import CorpusAudit, GroupAudit
from stepsearch.preparation.contamination import Contamination
from stepsearch.preparation.coverage import Match
from stepsearch.preparation.retrieval_ceiling import DEPTHS

_WAYS = {
    "question": "the question itself",
    "first_queries": "first reference query of each sub-question",
    "all_queries": "all reference queries",
}
_UNNAMED = "(no name)"


def coverage_table(audit: CorpusAudit) -> Table:
    """Return how many questions' golden documents the corpus has."""
    table = Table(
        title=f"Golden documents in the corpus ({audit.passages:,} passages; near: cosine from {audit.threshold:g})",
        title_justify="left",
    )
    for column in ("dataset", "hops"):
        table.add_column(column, no_wrap=True)
    for column in (
        "questions",
        "with golden",
        "all",
        "partly",
        "none",
        "documents",
        "by id",
        "text",
        "near",
        "missing",
    ):
        table.add_column(column, justify="right")
    for group in audit.groups:
        shares = (_percent(group.share(n)) for n in (group.all_found, group.some_found, group.none_found))
        documents = [f"{group.documents[match]:,}" for match in Match]
        total = f"{sum(group.documents.values()):,}"
        table.add_row(*_head(group), f"{group.questions:,}", f"{group.with_golden:,}", *shares, total, *documents)
    return table


def recall_table(audit: CorpusAudit) -> Table:
    """Return which share of the golden documents searches find."""
    table = Table(title="Golden recall@k with BM25", title_justify="left")
    for column in ("dataset", "hops", "asked"):
        table.add_column(column, no_wrap=True)
    for column in ("questions", "queries each", *(f"@{depth}" for depth in DEPTHS)):
        table.add_column(column, justify="right")
    for group in audit.groups:
        for way, at_depth in group.recall.items():
            values = (f"{at_depth[depth]:.3f}" for depth in DEPTHS)
            table.add_row(*_head(group), _WAYS[way], f"{group.asked[way]:,}", f"{group.queries[way]:.1f}", *values)
    return table


def notes(audit: CorpusAudit) -> list[str]:
    """Return what the tables do not say."""
    lines = [
        f"{_name(group)}: none of the {group.questions:,} questions has golden documents, and so there are no step "
        "rewards and no golden recall"
        for group in audit.groups
        if group.hops is None and not group.with_golden
    ]
    taken = sum(located.id_taken for located in audit.locations.values())
    if taken:
        lines.append(f"{taken:,} golden documents have an id under which the corpus has other content: not counted")
    return lines


def contamination_lines(found: Contamination, examples: int = 5) -> list[str]:
    """Return the counts of a contamination check and a few of its findings."""
    lines = [
        f"contamination: {found.repeated:,} of {found.evaluation_questions:,} evaluation questions stand among the "
        f"{found.training_questions:,} training questions",
        f"contamination: {len(found.shared_documents):,} of {found.evaluation_documents:,} golden documents are golden "
        f"for training questions too; {found.touched:,} evaluation questions need one of them",
    ]
    lines += [
        f"  {', '.join(shared.evaluation_ids)} = {', '.join(shared.training_ids)}: {shared.question}"
        for shared in found.shared_questions[:examples]
    ]
    lines += _left_out(found.shared_questions, examples)
    return lines


def _left_out(findings: Sequence[object], examples: int) -> list[str]:
    return [f"  and {len(findings) - examples:,} more"] if len(findings) > examples else []


def _head(group: GroupAudit) -> tuple[str, str]:
    return _name(group), "all" if group.hops is None else str(group.hops)


def _name(group: GroupAudit) -> str:
    return group.dataset or _UNNAMED


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
