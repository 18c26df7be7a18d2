"""Published numbers with the settings they were measured in; a row stands beside rows of the same variant only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DATASETS: tuple[str, ...] = ("hotpotqa", "2wiki", "musique", "bamboogle")
SETTING = "full benchmarks, Wiki-18 corpus, E5 retriever, top-3"
SEARCH_R1_TABLE = "arXiv 2503.09516, table 2"
STEP_SEARCH_TABLE = "arXiv 2505.15107, table 1"
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_INSTRUCT = re.compile(r"(?:^|[-_./])(?:instruct|it|chat)(?:$|[-_./])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Variant:
    """A model's size and kind: Qwen2.5 of that size, base or instruction-tuned."""

    size: str
    instruct: bool

    @property
    def name(self) -> str:
        """The variant in words."""
        return f"Qwen2.5-{self.size} {'instruct' if self.instruct else 'base'}"


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row of a published table, in percent.

    Attributes:
        method: as the source calls it.
        variant: the model it was measured with, which for trained methods is what training began from.
        scores: per dataset EM and F1; F1 is None where the source gives none.
        source: the table it stands in.
    """

    method: str
    variant: Variant
    scores: Mapping[str, tuple[float, float | None]]
    source: str


def _em(method: str, size: str, kind: str, *em: float) -> PublishedResult:
    scores = {name: (value, None) for name, value in zip(DATASETS, em, strict=True)}
    return PublishedResult(method, Variant(size, kind == "instruct"), scores, SEARCH_R1_TABLE)


def _both(method: str, size: str, kind: str, *scores: tuple[float, float | None]) -> PublishedResult:
    pairs = dict(zip(DATASETS, scores, strict=True))
    return PublishedResult(method, Variant(size, kind == "instruct"), pairs, STEP_SEARCH_TABLE)


# Both sources prompt instruction-tuned models only and head those rows "Base/Instruct": they are instruct rows.
# The second source prints for RAG with 7B on 2Wiki an F1 below its EM, which cannot be; that F1 is left out.
PUBLISHED = (
    _em("Direct inference", "3B", "instruct", 14.9, 24.4, 2.0, 2.4),
    _em("Chain of thought", "3B", "instruct", 2.1, 2.1, 0.2, 0.0),
    _em("RAG", "3B", "instruct", 25.5, 22.6, 4.7, 8.0),
    _em("IRCoT", "3B", "instruct", 16.4, 17.1, 6.7, 24.0),
    _em("Search-o1", "3B", "instruct", 22.1, 21.8, 5.4, 32.0),
    _em("Search-R1 (PPO)", "3B", "instruct", 32.4, 31.9, 10.3, 26.4),
    _em("Search-R1 (PPO)", "3B", "base", 28.4, 27.3, 4.9, 8.8),
    _em("Direct inference", "7B", "instruct", 18.3, 25.0, 3.1, 12.0),
    _em("Chain of thought", "7B", "instruct", 9.2, 11.1, 2.2, 23.2),
    _em("RAG", "7B", "instruct", 29.9, 23.5, 5.8, 20.8),
    _em("IRCoT", "7B", "instruct", 13.3, 14.9, 7.2, 22.4),
    _em("Search-o1", "7B", "instruct", 18.7, 17.6, 5.8, 29.6),
    _em("Search-R1 (PPO)", "7B", "instruct", 37.0, 41.4, 14.6, 36.8),
    _em("Search-R1 (PPO)", "7B", "base", 43.3, 38.2, 19.6, 43.2),
    _both("Naive generation", "3B", "instruct", (14.5, 23.7), (24.9, 35.6), (1.8, 7.9), (3.0, 8.6)),
    _both("RAG", "3B", "instruct", (25.1, 35.9), (22.1, 31.6), (5.1, 13.5), (7.6, 16.1)),
    _both("IRCoT", "3B", "instruct", (17.1, 24.1), (19.6, 26.5), (5.9, 12.3), (24.5, 35.6)),
    _both("Search-o1", "3B", "instruct", (24.0, 32.6), (20.7, 30.9), (4.5, 11.7), (31.6, 43.6)),
    _both("Search-R1", "3B", "instruct", (30.4, 40.1), (29.3, 35.2), (12.0, 18.8), (24.0, 34.4)),
    _both("StepSearch", "3B", "instruct", (34.5, 45.2), (32.0, 38.5), (17.4, 26.1), (34.4, 45.2)),
    _both("Search-R1", "3B", "base", (27.2, 36.1), (24.8, 29.6), (8.1, 14.6), (17.6, 27.0)),
    _both("StepSearch", "3B", "base", (32.9, 43.4), (33.9, 39.5), (18.1, 27.3), (32.8, 41.9)),
    _both("Naive generation", "7B", "instruct", (18.7, 29.1), (24.6, 35.2), (2.7, 8.3), (12.3, 24.2)),
    _both("RAG", "7B", "instruct", (28.7, 39.1), (23.1, None), (6.1, 14.2), (21.4, 31.6)),
    _both("IRCoT", "7B", "instruct", (14.1, 23.2), (14.2, 24.1), (7.2, 15.9), (21.6, 31.9)),
    _both("Search-o1", "7B", "instruct", (19.3, 28.8), (18.1, 28.9), (5.3, 12.7), (30.2, 42.7)),
    _both("Search-R1", "7B", "instruct", (39.4, 50.2), (31.2, 37.6), (18.1, 26.2), (38.4, 50.1)),
    _both("StepSearch", "7B", "instruct", (38.6, 50.2), (36.6, 43.1), (22.6, 31.2), (40.0, 53.4)),
    _both("Search-R1", "7B", "base", (43.2, 54.7), (35.0, 41.1), (20.6, 29.0), (43.0, 54.5)),
    _both("StepSearch", "7B", "base", (38.0, 49.3), (38.5, 45.0), (21.6, 32.4), (46.7, 57.3)),
)


def variant_of(model: str) -> Variant | None:
    """Return the variant that a model's name tells, as `Qwen/Qwen2.5-3B-Instruct` does; None if it tells none."""
    if "qwen2.5" not in model.lower():
        return None
    size = _SIZE.search(model)
    return Variant(f"{size[1]}B", bool(_INSTRUCT.search(model))) if size else None


def published_beside(model: str) -> list[PublishedResult]:
    """Return the rows of the model's own variant; of every variant where its name tells none."""
    variant = variant_of(model)
    return [row for row in PUBLISHED if variant in (None, row.variant)]


def published_json(model: str) -> dict[str, Any]:
    """Return the rows that may stand beside a model, and their setting, as plain JSON values."""
    rows = [
        {
            "method": row.method,
            "model": row.variant.name,
            "scores": {name: list(pair) for name, pair in row.scores.items()},
            "source": row.source,
        }
        for row in published_beside(model)
    ]
    return {"setting": SETTING, "unit": "percent, [EM, F1]", "results": rows}
