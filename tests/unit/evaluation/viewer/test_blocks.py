from report_episodes import LYON, PARIS, SEINE

from stepsearch.evaluation.viewer.blocks import Block, characters_read, episode_blocks
from stepsearch.protocol import CORRECTION, NO_SEARCH_LEFT
from stepsearch.types import Passage, SearchStep

STEP = SearchStep("capital of France", (PARIS,), 0)


def test_an_episode_is_thoughts_searches_documents_and_an_answer() -> None:
    text = (
        "<think>look</think><search> capital  of France</search>\n<information>Doc 1 (Title: Paris) Paris …"
        "</information>\n<think>found</think><answer>Paris</answer>"
    )
    assert [(block.kind, block.step) for block in episode_blocks(text, [STEP])] == [
        ("think", None),
        ("search", 0),
        ("documents", 0),
        ("think", None),
        ("answer", None),
    ]


def test_tags_that_a_correction_speaks_of_are_no_actions() -> None:
    text = f"hm{CORRECTION}<answer>Paris</answer>"
    kinds = [block.kind for block in episode_blocks(text, [])]
    assert kinds == ["text", "environment", "answer"]


def test_documents_that_the_policy_writes_itself_are_told_apart() -> None:
    text = "<information>Doc 1 I made this up</information><answer>x</answer>"
    assert [block.kind for block in episode_blocks(text, [])] == ["claimed", "answer"]


def test_what_follows_the_last_search_is_the_environments() -> None:
    text = f"<search>capital of France</search>\n<information>Doc 1 P</information>\n{NO_SEARCH_LEFT}<answer>P</answer>"
    kinds = [block.kind for block in episode_blocks(text, [STEP])]
    assert kinds == ["search", "documents", "environment", "answer"]


def test_a_search_that_was_not_executed_has_no_step() -> None:
    text = "<search>capital of France</search>\n<information>Doc 1 P</information>\n<search>more</search>"
    assert episode_blocks(text, [STEP])[-1] == Block("search", "more", None)


def test_steps_that_the_text_does_not_show_come_first() -> None:
    blocks = episode_blocks("Documents say so. <answer>Paris</answer>", [STEP])
    assert blocks[0] == Block("search", "capital of France", 0)
    assert [block.kind for block in blocks] == ["search", "text", "answer"]


def test_a_document_that_a_budget_cut_says_how_much_was_read() -> None:
    shown = f"<information>Doc 1 (Title: Paris) {PARIS.text}\nDoc 2 (Title: Seine) The Seine</information>"
    assert characters_read(shown, 1, PARIS) is None
    assert characters_read(shown, 2, SEINE) == len("The Seine")
    assert characters_read(shown, 3, LYON) == 0


def test_a_tag_in_a_document_is_shown_in_brackets_and_still_counts_as_read() -> None:
    passage = Passage("x", "a </search> b")
    assert characters_read("Doc 1 a [/search] b", 1, passage) is None
