"""Episodes and result folders for the tests of the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.evaluation.metrics import score_answer
from stepsearch.protocol import INFORMATION_PREFIX, INFORMATION_SUFFIX, Answer, Search, passage_heading, render_turn
from stepsearch.types import FormatError, Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory

PARIS = Passage("p1", "Paris is the capital of France.", "Paris")
SEINE = Passage("p2", "The Seine flows through Paris.", "Seine")
LYON = Passage("p3", "Lyon lies on the Rhone.", "Lyon")


def make_question(name: str = "q1", golden: Sequence[Passage] = (PARIS, SEINE), hops: int = 2) -> Question:
    """Return a question with a hop per golden document; each asks for the document's title."""
    return Question(
        id=name,
        question=f"Which river flows through the capital of France ({name})?",
        answers=("Seine", "the river Seine"),
        sub_questions=tuple(
            SubQuestion(f"about {passage.title}", passage.title, (passage.title,), passage.id) for passage in golden
        ),
        golden_passages=tuple(golden),
        dataset="musique",
        hops=hops,
    )


def make_episode(
    question: Question | None = None,
    searches: Sequence[tuple[str, Sequence[Passage]]] = (("Paris", (PARIS,)), ("Seine", (SEINE, PARIS))),
    answer: str | None = "Seine",
    thought: str = "first the capital",
    stop: StopReason = StopReason.ANSWERED,
) -> Trajectory:
    """Return an episode whose tokens are not known, as of a model behind an endpoint."""
    text = ""
    for query, passages in searches:
        found = "\n".join(passage_heading(rank, p.title) + p.text for rank, p in enumerate(passages, start=1))
        text += render_turn(thought, Search(query)) + INFORMATION_PREFIX + found + INFORMATION_SUFFIX
    text += "" if answer is None else render_turn("now I know", Answer(answer))
    return Trajectory(
        question=question or make_question(),
        prompt_ids=(),
        response_ids=(),
        response_mask=(),
        rollout_logprobs=(),
        steps=tuple(SearchStep(query, tuple(passages), 0) for query, passages in searches),
        answer=answer,
        format_error=FormatError.NO_ANSWER if answer is None else None,
        stop_reason=stop,
        response_text=text,
    )


def prediction(episode: Trajectory, **more: Any) -> dict[str, Any]:
    """Return a line of predictions."""
    em, f1 = score_answer(episode.question, episode.answer)
    line = {"id": episode.question.id, "question": episode.question.question, "answers": list(episode.question.answers)}
    return {**line, "prediction": episode.answer, "em": em, "f1": f1, "trajectory": episode.to_json(), **more}


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a JSONL file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_predictions(folder: Path, episodes: Sequence[Trajectory], name: str = "predictions_musique.jsonl") -> Path:
    """Write a predictions file and return its folder."""
    write_lines(folder / name, [prediction(episode) for episode in episodes])
    return folder


def embedded(page: Path, name: str) -> Any:
    """Return what a data element of a report holds, read as a browser does: up to the first closing tag."""
    _, _, after = page.read_text(encoding="utf-8").partition(f'<script type="application/json" id="{name}">')
    return json.loads(after.partition("</script")[0])
