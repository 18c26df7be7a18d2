"""The warm start: the very tokens of a rollout, only written tokens in the loss, and a policy that learns to copy."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from stepsearch.config import RolloutSettings, WarmStartPhase, WarmStartSettings, WorldSettings
from stepsearch.data.musique import read_musique
from stepsearch.data.synthetic import TRAIN_FILE, write_world
from stepsearch.errors import TrainingError
from stepsearch.models.tiny import build_tiny_policy
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer, name_token_groups
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.preparation.demonstrations import Demonstration, DemonstrationWriter, Observed, Written
from stepsearch.protocol import NO_SEARCH_LEFT
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.rollout.runner import RolloutRunner
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.curriculum import curriculum
from stepsearch.training.demonstration_batches import DemonstrationEncoder, endless_batches, permute_tokens
from stepsearch.training.muon import Muon, orthogonalise
from stepsearch.training.warm_start import WarmStartUpdate, imitate, imitation_loss, warm_start
from stepsearch.types import Question

CLEAN = WarmStartPhase(kind="demonstrations", updates=3, tokens=512)
READING = WarmStartPhase(kind="reading", updates=2, tokens=256)
BUDGETS = RolloutSettings(max_turn_tokens=60, max_observation_tokens=72, max_passage_tokens=64)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Question], BM25SearchEngine]:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldSettings(train_questions=60, dev_questions=5, test_questions=5, scale=0.05), seed=1)
    benchmark = read_musique(folder / TRAIN_FILE)
    return benchmark.questions, BM25SearchEngine.from_passages(benchmark.passages)


@pytest.fixture(scope="module")
def encoder() -> DemonstrationEncoder:
    tokenizer = ModelTokenizer(build_tiny_tokenizer(), "question")
    return DemonstrationEncoder(tokenizer, ObservationBuilder(tokenizer, 72, 64), 480)


def writer_of(search: BM25SearchEngine) -> DemonstrationWriter:
    return DemonstrationWriter(GuardedSearch(search), top_k=1, max_searches=6)


class Replay:
    """A generation engine that says what it was told to say."""

    def __init__(self, turns: Sequence[list[int]]) -> None:
        self._turns, self._asked = list(turns), list[int]()

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        self._asked.append(request_id)

    def step(self) -> list[Segment]:
        asked, self._asked = self._asked, []
        return [
            Segment(request, turn, [0.0] * len(turn), SegmentEnd.STOP_TAG)
            for request, turn in ((request, self._turns.pop(0)) for request in asked)
        ]

    def release(self, request_id: int) -> None:
        pass

    @property
    def active(self) -> int:
        return len(self._asked)


@pytest.mark.parametrize("max_searches", [6, 4])
def test_a_demonstration_is_token_for_token_what_a_rollout_records(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder, max_searches: int
) -> None:
    questions, search = world
    tokenizer = ModelTokenizer(build_tiny_tokenizer(), "question")
    flawed = CLEAN.model_copy(update={"repeat_query": 0.7, "vague_query": 0.3})
    writer = DemonstrationWriter(GuardedSearch(search), top_k=1, max_searches=max_searches)
    spent = 0
    for question in questions[:12]:
        (demonstration,) = writer.write([question], flawed, random.Random(0))
        (example,) = encoder.encode([demonstration])
        turns = [tokenizer.encode_markup(part.text) for part in demonstration.segments if isinstance(part, Written)]
        runner = RolloutRunner(
            Replay(turns), tokenizer, GuardedSearch(search), BUDGETS,
            max_length=480, max_search_steps=max_searches, search_top_k=1,
        )  # fmt: skip
        (trajectory,) = runner.run([question], [0])
        assert example.ids == [*trajectory.prompt_ids, *trajectory.response_ids]
        assert example.written == [0] * len(trajectory.prompt_ids) + list(trajectory.response_mask)
        assert trajectory.format_error is None
        spent += NO_SEARCH_LEFT.strip() in trajectory.response_text
    assert spent > 0


def test_batches_hold_no_more_tokens_than_asked_for_and_mark_no_padding(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder
) -> None:
    questions, search = world
    batches = list(curriculum(questions, writer_of(search), encoder, (READING, CLEAN), 0))
    assert len(batches) == 5
    for batch, limit in zip(batches, [256] * 2 + [512] * 3, strict=True):
        assert batch.input_ids.numel() <= limit
        assert batch.tokens == int((batch.input_ids != encoder.pad_id).sum())
        assert not batch.written[batch.input_ids == encoder.pad_id].any()
        assert batch.written.any(dim=1).all()


def test_demonstrations_that_never_fit_are_an_error(encoder: DemonstrationEncoder) -> None:
    long = Demonstration(None, (Observed(()), Written(" word" * 400)))
    with pytest.raises(TrainingError, match="nothing to learn from"):
        next(endless_batches(lambda: [long], encoder, 100, random.Random(0)))


def test_no_questions_are_an_error(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder
) -> None:
    settings = WarmStartSettings(phases=(CLEAN,))
    with pytest.raises(TrainingError, match="no questions"):
        warm_start(build_tiny_policy(0)[0], [], writer_of(world[1]), encoder, settings, seed=0)


def test_permutation_keeps_equal_equal_and_leaves_the_rest() -> None:
    ids = torch.tensor([[1, 5, 6, 5, 9, 7], [1, 5, 6, 5, 9, 7]])
    groups = [torch.tensor([5, 6, 7, 8]), torch.tensor([9, 10])]
    seen = set()
    for seed in range(40):
        out = permute_tokens(ids, groups, torch.Generator().manual_seed(seed))
        for row in out.tolist():
            assert row[0] == 1
            assert row[1] == row[3] != row[2]
            assert {row[1], row[2], row[5]} < {5, 6, 7, 8}
            assert row[4] in {9, 10}
            seen.add(row[1])
    assert seen == {5, 6, 7, 8}
    assert torch.equal(permute_tokens(ids, [], torch.Generator()), ids)


def test_the_loss_counts_written_tokens_alone_and_no_padding() -> None:
    causal_lm, _ = build_tiny_policy(0)
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 0, 0]])
    written = torch.tensor([[0, 0, 1, 0, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    loss, right = imitation_loss(causal_lm, ids, written)
    logprobs = causal_lm(ids).logits.log_softmax(-1)
    expected = -(logprobs[0, 1, 7] + logprobs[0, 3, 9] + logprobs[1, 1, 7])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    best = logprobs.argmax(-1)
    assert right == int(best[0, 1] == 7) + int(best[0, 3] == 9) + int(best[1, 1] == 7)


def test_workers_share_a_batch_and_take_the_same_step() -> None:
    ids = torch.randint(5, 800, (5, 12), generator=torch.Generator().manual_seed(0))
    written = torch.rand(5, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    weights = []
    for workers in (1, 2, 9):
        causal_lm, _ = build_tiny_policy(0)
        imitate(causal_lm, ids, written, [torch.optim.SGD(causal_lm.parameters(), lr=1.0)], workers)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in causal_lm.parameters()]))
    for shared in weights[1:]:
        torch.testing.assert_close(shared, weights[0], rtol=0, atol=1e-6)


def test_a_loss_that_is_not_finite_leaves_the_weights() -> None:
    causal_lm, _ = build_tiny_policy(0)
    with torch.no_grad():
        causal_lm.model.norm.weight[0] = math.inf
    before = [parameter.clone() for parameter in causal_lm.parameters()]
    optimiser = torch.optim.SGD(causal_lm.parameters(), lr=1.0)
    with pytest.raises(TrainingError, match="not finite"):
        imitate(causal_lm, torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool), [optimiser])
    assert all(torch.equal(a, b) for a, b in zip(before, causal_lm.parameters(), strict=True))


def test_equal_seeds_give_equal_weights_and_each_update_is_told(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder
) -> None:
    questions, search = world
    settings = WarmStartSettings(warmup_updates=2, phases=(READING, CLEAN))

    def trained(seed: int) -> tuple[nn.Module, list[WarmStartUpdate]]:
        causal_lm, hf = build_tiny_policy(0)
        updates: list[WarmStartUpdate] = []
        torch.manual_seed(len(updates) + seed * 7)
        last = warm_start(
            causal_lm, questions, writer_of(search), encoder, settings,
            seed=seed, exchangeable=name_token_groups(hf), on_update=updates.append,
        )  # fmt: skip
        assert last == updates[-1]
        return causal_lm, updates

    (one, updates), (two, _), (other, _) = trained(3), trained(3), trained(4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert [update.update for update in updates] == [1, 2, 3, 4, 5]
    assert {update.updates for update in updates} == {5}
    assert all(parameter.grad is None for parameter in one.parameters())


def test_an_interruption_comes_through_and_leaves_no_gradients(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder
) -> None:
    questions, search = world
    causal_lm, _ = build_tiny_policy(0)

    def interrupt(update: WarmStartUpdate) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start(
            causal_lm, questions, writer_of(search), encoder, WarmStartSettings(phases=(CLEAN,)),
            seed=0, on_update=interrupt,
        )  # fmt: skip
    assert all(parameter.grad is None for parameter in causal_lm.parameters())


def test_thirty_updates_learn_the_form_of_an_episode(
    world: tuple[list[Question], BM25SearchEngine], encoder: DemonstrationEncoder
) -> None:
    questions, search = world
    causal_lm, hf = build_tiny_policy(0)
    updates: list[WarmStartUpdate] = []
    settings = WarmStartSettings(warmup_updates=5, phases=(CLEAN.model_copy(update={"updates": 30}),))
    warm_start(
        causal_lm, questions, writer_of(search), encoder, settings,
        seed=0, exchangeable=name_token_groups(hf), on_update=updates.append,
    )  # fmt: skip
    assert updates[0].loss > 6.5
    assert sum(update.loss for update in updates[-5:]) / 5 < 4.5


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 100
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muons_first_step_goes_along_the_orthogonalised_gradient() -> None:
    matrix = nn.Parameter(torch.zeros(8, 2))
    gradient = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    matrix.grad = gradient.clone()
    Muon([matrix], lr=0.1).step()
    assert torch.allclose(matrix.detach(), -0.1 * 2.0 * orthogonalise(gradient), atol=1e-5)
