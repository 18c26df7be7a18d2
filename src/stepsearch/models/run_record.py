"""What a saved model says of the run that made it; what is not known is None, or left out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

RUN = "run"
"""The key of a `stepsearch.json` that holds it."""
STEPPO, WARM_START = "StePPO", "warm start"
"""Methods of a run; there are others (`run_records.method_of`)."""


@dataclass(frozen=True, slots=True)
class QuestionsUsed:
    """Questions that a run had.

    Attributes:
        use: what for, such as training.
        file: name of their file; None where they came from elsewhere.
        counts: how many, by dataset; those of none under an empty name.
    """

    use: str
    file: str | None
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class CorpusUsed:
    """What was searched.

    Attributes:
        engine: its type.
        top_k: documents per query.
        passages: of the knowledge base; None where the engine has none.
        fingerprint: of the same.
        golden_documents: of the training questions; None where the corpus was not looked through.
        golden_found: which of these the corpus has, by id or text.
    """

    engine: str
    top_k: int
    passages: int | None = None
    fingerprint: str | None = None
    golden_documents: int | None = None
    golden_found: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A figure.

    Attributes:
        dataset: what it was measured on.
        split: which questions: dev questions chose the model, no other ones had a part in it.
        figure: em or f1.
        value: its mean.
        count: over so many questions.
        low: where its 95 % interval begins; None without one.
        high: where that ends.
        corpus: what was searched, where it is not what training searched.
    """

    dataset: str
    split: str
    figure: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None
    corpus: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run.

    Attributes:
        method: how the weights came about, such as StePPO.
        base_model: hub name of the model that it began with; None for one made on the spot, or not known.
        base_folder: name of the folder that it began with, where that is no model of a hub; None for the tiny policy.
        seed: of the run.
        step: whole training steps taken when the model was saved; None where steps are not what was taken.
        total_steps: of how many.
        questions: what it was trained on, and what chose the model.
        corpus: what it searched.
        settings: those that differ from the defaults, by dotted key.
        results: what was measured.
        commands: typed so far, oldest first.
        versions: of Python and packages.
    """

    method: str
    seed: int
    base_model: str | None = None
    base_folder: str | None = None
    step: int | None = None
    total_steps: int | None = None
    questions: tuple[QuestionsUsed, ...] = ()
    corpus: CorpusUsed | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    results: tuple[Result, ...] = ()
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "RunRecord":
        """Return what `to_json` wrote.

        Raises:
            ValueError: it is not that.
        """
        try:
            corpus = record.get("corpus")
            parts: dict[str, Any] = {
                "questions": tuple(QuestionsUsed(**used) for used in record.get("questions", ())),
                "corpus": None if corpus is None else CorpusUsed(**corpus),
                "results": tuple(Result(**result) for result in record.get("results", ())),
                "commands": tuple(record.get("commands", ())),
            }
            return cls(**{**record, **parts})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"it is no record of a run: {error}") from None

    def with_results(self, results: tuple[Result, ...]) -> "RunRecord":
        """Return the record with further results, which take the place of those of the same questions."""
        new = {(result.dataset, result.split) for result in results}
        kept = tuple(result for result in self.results if (result.dataset, result.split) not in new)
        return replace(self, results=kept + results)
