"""IRCoT (Trivedi et al. 2023, arXiv 2212.10509; github.com/StonyBrookNLP/ircot).

Documents are sought with the question; then one sentence of reasoning is sampled and documents are sought with that
sentence, in turn, until a sentence names the answer or the budget is spent. A reader then reasons anew over all
documents and answers. What differs from the source is said in docs/baselines.md.
"""

from stepsearch.evaluation.baselines.answers import (
    ANSWER_PHRASE,
    answer_line_end,
    named_answer,
    reasoned_answer,
    sentence_end,
)
from stepsearch.evaluation.baselines.documents import ircot_document
from stepsearch.evaluation.text_episode import Play, TextEpisode, reason_of
from stepsearch.evaluation.text_generation import Piece, TextEnd, fill
from stepsearch.protocol import NO_RESULTS, SEARCH_FAILED
from stepsearch.search.guarded_search import SearchOutcome

MAX_PARAGRAPHS, MAX_SENTENCES = 15, 10
"""The source's limits on what is gathered and on what is reasoned."""

INSTRUCTION = (
    "Answer the last question from the paragraphs above it. Reason one sentence at a time, and end with "
    f'"{ANSWER_PHRASE}" and the answer.\n\n'
)
EXAMPLE = (
    "Wikipedia Title: The Salt Road\nThe Salt Road is a novel by Ada Kern, published in 1931.\n\n"
    "Wikipedia Title: Ada Kern\nAda Kern was a writer, born in Tolvik.\n\n"
    "Q: Where was the author of The Salt Road born?\n"
    f"A: The Salt Road was written by Ada Kern. Ada Kern was born in Tolvik. {ANSWER_PHRASE} Tolvik.\n\n\n"
)
PROMPT = f"{INSTRUCTION}{EXAMPLE}{{paragraphs}}\n\nQ: {{question}}\nA:"


def ircot(episode: TextEpisode) -> Play:
    """Reason and search in turn, then read the answer from what was found."""
    paragraphs = _Paragraphs(episode)
    paragraphs.add((yield from episode.search(episode.question)))
    sentences: list[str] = []
    while len(sentences) < MAX_SENTENCES:
        prompt = (*paragraphs.prompt(), Piece("".join(f" {sentence}" for sentence in sentences), outside=True))
        said = yield from episode.sample(prompt, until=sentence_end)
        sentences.append(said.text.strip())
        if said.end is TextEnd.NO_REPLY:
            return episode.finish(reason_of(said))
        if said.end is TextEnd.CONTEXT_FULL:
            paragraphs.drop_last()
            break
        if not sentences[-1] or named_answer(sentences[-1]) or not episode.searches_left:
            break
        found = paragraphs.add((yield from episode.search(sentences[-1])))
        episode.observe(Piece(f"\n\n{found}\n\n", outside=True))
    reader = yield from episode.sample(
        paragraphs.prompt(), max_tokens=episode.budget.reasoning_tokens, until=answer_line_end
    )
    return episode.answered(reasoned_answer(reader), reader)


class _Paragraphs:
    """The documents so far, each once and in order of their finding."""

    def __init__(self, episode: TextEpisode) -> None:
        self._episode = episode
        self._texts: dict[str, str] = {}
        self._new: list[str] = []
        self._note = NO_RESULTS

    def add(self, outcome: SearchOutcome) -> str:
        """Take what a search found; return what of it is new, as the model will read it."""
        room = MAX_PARAGRAPHS - len(self._texts)
        self._note = SEARCH_FAILED if outcome.failed else NO_RESULTS
        new = [passage for passage in outcome.passages if passage.id not in self._texts][:room]
        written = {passage.id: self._episode.document(1, passage, ircot_document) for passage in new}
        self._texts |= written
        self._new = list(written)
        return "\n\n".join(written.values()) if outcome.passages else self._note

    def drop_last(self) -> None:
        """Forget what the last search brought: the context could not hold it."""
        for name in self._new:
            del self._texts[name]

    def prompt(self) -> tuple[Piece, ...]:
        """Return the prompt over all paragraphs, up to where the reasoning begins."""
        paragraphs = "\n\n".join(self._texts.values()) or self._note
        return fill(PROMPT, paragraphs=paragraphs, question=self._episode.question)
