"""What a run says of its questions before it starts."""

from pathlib import Path

import pytest

from stepsearch.cli.training_signal import signal_lines
from stepsearch.config import load_config
from stepsearch.data import KnowledgeBase
from stepsearch.types import Passage, Question, SubQuestion

KERN, BOR = Passage("1", "Ada Kern was born in Velm."), Passage("2", "Nils Bor leads Velm.")
BARE = Question("a", "Who?", ("x",))
WHOLE = Question("b", "What?", ("y",), (SubQuestion("Where?", "Velm", ("Ada Kern",)),), (KERN, BOR))


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    KnowledgeBase.create(tmp_path / "kb", [KERN, Passage("9", "Something else.")])
    return f"search.knowledge_base={tmp_path / 'kb'}"


def test_questions_that_can_be_rewarded_are_counted(corpus: str) -> None:
    assert signal_lines(load_config(None, [corpus]), [BARE, WHOLE, BARE]) == [
        "3 questions: 1 with golden documents, 1 with reference queries"
    ]


def test_what_cannot_be_rewarded_is_a_warning_unless_no_reward_asks_for_it(corpus: str) -> None:
    counted, steps, keys = signal_lines(load_config(None, [corpus]), [BARE])
    assert counted == "1 questions: 0 with golden documents, 0 with reference queries"
    assert steps.startswith("warning: no question has golden_documents")
    assert keys.startswith("warning: no question has search_queries")
    switched_off = ["reward.search_key=false", "reward.information_gain=false", "reward.redundancy_penalty=false"]
    for answers_alone in (["reward.step_scale=0", "reward.gamma_key=0"], switched_off):
        assert signal_lines(load_config(None, [corpus, *answers_alone]), [BARE]) == [counted]


def test_a_corpus_without_any_of_the_golden_documents_is_a_warning(corpus: str) -> None:
    elsewhere = Question("c", "Who?", ("x",), WHOLE.sub_questions, (Passage("7", "Not there."), Passage("1", "Other.")))
    _, warning = signal_lines(load_config(None, [corpus]), [elsewhere])
    assert warning.startswith("warning: the corpus has none of their 2 golden documents")
    own = signal_lines(load_config(None, ["search.knowledge_base=gone"]), [elsewhere], own_engine=True)
    assert own == ["1 questions: 1 with golden documents, 1 with reference queries"]
