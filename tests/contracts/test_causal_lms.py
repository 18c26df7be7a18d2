"""What any causal LM can be relied on for, asked of tiny ones of each kind that people bring.

Each is taught the form of an episode for a moment, with a tokenizer whose merges swallow what stands around a tag.
"""

import copy
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from toy_run import LEADERS, toy_config, toy_passages, toy_questions
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from stepsearch.cli.players import Player
from stepsearch.config import Config, ModelSettings
from stepsearch.models import InProcessEngine, ModelTokenizer, StepSearchModel
from stepsearch.models.step_search_model import model_record
from stepsearch.protocol import STOP_TAGS, Answer, Search, closing, render_prompt, render_turn
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout import Sampling
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer
from stepsearch.types import Trajectory

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
KINDS = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Llama": {},
    "Mistral": {"sliding_window": 64},
    "Gemma": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "Gemma3Text": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "Phi3": {},
    "Qwen2Moe": {**EXPERTS, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Olmoe": EXPERTS,
}
BUDGETS = {
    "model.max_length": 400,
    "rollout.max_turn_tokens": 60,
    "rollout.max_observation_tokens": 60,
    "rollout.max_passage_tokens": 40,
    "training.batch_size": 8,
    "training.minibatch_size": 8,
    "training.microbatch_tokens": 2000,
    "training.max_steps": 1,
    "training.value_warmup_steps": 0,
}


def swallowing_tokenizer() -> ModelTokenizer:
    """Return BPE whose merges know no words, so that `>` is often one token with a line break or the next tag's `<`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    texts = [
        f"{_turn(asked)}\n<information>{leader} leads {asked}</information>\n" for asked, leader in LEADERS.items()
    ]
    backend.train_from_iterator([*texts, f"{render_turn('so', Answer('kim'))}\n"], trainer)
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return ModelTokenizer(hf, "question")


def _turn(asked: str) -> str:
    return render_turn("who?", Search(f"{asked} leads"))


TOKENIZER = swallowing_tokenizer()
CONFIG = toy_config(BUDGETS)


def teach(policy: StepSearchModel, updates: int = 60) -> None:
    """Let a policy imitate episodes whose last token of a turn may carry a line break."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    rng = random.Random(0)
    for _ in range(updates):
        rows = [_episode(rng) for _ in range(12)]
        width = max(len(ids) for ids, _ in rows)
        input_ids = torch.tensor([ids + [policy.tokenizer.pad_id] * (width - len(ids)) for ids, _ in rows])
        mask = torch.tensor([mask + [0] * (width - len(mask)) for _, mask in rows])
        loss = -policy(input_ids, mask, with_entropy=False).logprobs.sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _episode(rng: random.Random) -> tuple[list[int], list[int]]:
    asked, named = rng.choice(list(LEADERS)), rng.choice(list(LEADERS.values()))
    after = rng.choice(["", "\n"])
    parts = [
        (render_prompt("question", f"who leads {asked}"), 0),
        (_turn(asked) + after, 1),
        (f"\n<information>Doc 1 {LEADERS[asked]} leads {asked}</information>\n", 0),
        (render_turn("so", Answer(named)) + after, 1),
    ]
    encoded = [(TOKENIZER.encode_markup(text), sampled) for text, sampled in parts]
    return [token for ids, _ in encoded for token in ids], [sampled for ids, sampled in encoded for _ in ids]


@pytest.fixture(autouse=True)
def slow_reading_is_no_error() -> Iterator[None]:
    """Some kinds cannot be read in one packed pass, and say so; that they are read right is what counts here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* cannot be read (packed|with a cache)")
        yield


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest, random_policy) -> StepSearchModel:
    causal_lm = random_policy(len(TOKENIZER), request.param, **KINDS[request.param])
    with torch.no_grad():
        for parameter in causal_lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.4)
    policy = StepSearchModel(causal_lm, TOKENIZER)
    teach(policy)
    return policy


def play(policy: StepSearchModel, config: Config, count: int = 16) -> list[Trajectory]:
    search = GuardedSearch(BM25SearchEngine.from_passages(toy_passages()), retries=0)
    questions = [toy_questions()[index % len(LEADERS)] for index in range(count)]
    return Player(policy, search, config).runner(1.0).run(questions, range(count))


def test_merges_swallow_what_stands_around_tags() -> None:
    pieces = TOKENIZER.token_pieces()
    assert [piece for piece in pieces if ">\n" in piece]
    assert [piece for piece in pieces if "><" in piece]


def test_greedy_is_what_generate_gives(policy: StepSearchModel) -> None:
    engine = InProcessEngine(policy.causal_lm, TOKENIZER, slots=3)
    prompts = TOKENIZER.encode_prompts([question.question for question in toy_questions()])
    for index, prompt in enumerate(prompts):
        engine.submit(index, prompt, Sampling(50, seed=0, temperature=0))
    ours: dict[int, list[int]] = {}
    while engine.active:
        for segment in engine.step():
            ours[segment.request_id] = segment.token_ids
            engine.release(segment.request_id)
    for index, prompt in enumerate(prompts):
        found = policy.causal_lm.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=50,
            stop_strings=list(STOP_TAGS),
            tokenizer=TOKENIZER.hf,
            eos_token_id=list(TOKENIZER.eos_ids),
            pad_token_id=TOKENIZER.pad_id,
        )
        assert ours[index] == found[0, len(prompt) :].tolist()


def test_episodes_are_exact_to_the_token(policy: StepSearchModel) -> None:
    trajectories = play(policy, CONFIG)
    steps = [(trajectory, step) for trajectory in trajectories for step in trajectory.steps]
    assert len(steps) > 4
    for trajectory, step in steps:
        mask = trajectory.response_mask[: step.end_position + 1]
        first = len(mask) - mask[::-1].index(0) if 0 in mask else 0
        turn = trajectory.response_ids[first : step.end_position + 1]
        # The tag closes in the last sampled token, whatever else that carries.
        assert closing("search") in TOKENIZER.decode(turn)
        assert closing("search") not in TOKENIZER.decode(turn[:-1])
        assert trajectory.response_mask[step.end_position] == 1
        assert not any(trajectory.response_mask[step.end_position + 1 : step.end_position + 2])
    last = [TOKENIZER.decode([trajectory.response_ids[step.end_position]]) for trajectory, step in steps]
    assert {text.endswith("\n") for text in last} == {True, False}


def test_trainer_and_engine_agree_on_what_was_sampled(policy: StepSearchModel) -> None:
    for trajectory in play(policy, CONFIG, 6):
        ids = torch.tensor([[*trajectory.prompt_ids, *trajectory.response_ids]])
        mask = torch.tensor([[0] * len(trajectory.prompt_ids) + list(trajectory.response_mask)])
        with torch.no_grad():
            trained = policy(ids, mask, with_entropy=False).logprobs[0, len(trajectory.prompt_ids) :]
        torch.testing.assert_close(torch.tensor(trajectory.rollout_logprobs), trained, rtol=0, atol=1e-4)


def test_a_step_of_steppo_learns_and_the_model_goes_on_living_as_a_folder(
    policy: StepSearchModel, tmp_path: Path
) -> None:
    learner = StepSearchModel(copy.deepcopy(policy.causal_lm), TOKENIZER)
    search = GuardedSearch(BM25SearchEngine.from_passages(toy_passages()), retries=0)
    trainer = StePPOTrainer(
        learner,
        Player(learner, search, CONFIG).runner(1.0),
        search,
        StepSearchRewardCalculator(CONFIG.reward),
        toy_questions(),
        CONFIG,
        RunFolder.at(tmp_path),
    )
    with MetricLog(tmp_path / "logs", step=0, tensorboard=False) as log:
        metrics = trainer.train_step(log)
    assert metrics["rollout/logprob_gap"] < 1e-4
    assert metrics["optim/grad_norm"] > 0
    moved = dict(learner.causal_lm.named_parameters())
    assert all(weights.isfinite().all() for weights in moved.values())
    assert all(
        not torch.equal(weights, moved[name])
        for name, weights in policy.causal_lm.named_parameters()
        if name.endswith(("q_proj.weight", "qkv_proj.weight", "lm_head.weight"))
    )

    learner.save(tmp_path / "model", model_record(CONFIG))
    ids = torch.tensor([TOKENIZER.encode_prompt("who leads red")])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ours = StepSearchModel.load(ModelSettings(name=str(tmp_path / "model")))
    with torch.no_grad():
        expected = learner.causal_lm(ids).logits
        torch.testing.assert_close(theirs(ids).logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.causal_lm(ids).logits, expected, rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == TOKENIZER.hf.get_vocab()
    # What was loaded once comes back as it was, with the prompt that it was trained with.
    ours.save(tmp_path / "again", model_record(CONFIG))
    again = StepSearchModel.load(ModelSettings(name=str(tmp_path / "again"))).tokenizer
    assert again.encode_prompt("who leads\n  teal?") == ours.tokenizer.encode_prompt("who leads\n  teal?")


TEMPLATE = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}[assistant] "


def test_base_models_get_the_plain_prompt_and_instruct_models_their_template(random_policy, tmp_path: Path) -> None:
    causal_lm = random_policy(len(TOKENIZER), "Llama")
    causal_lm.save_pretrained(tmp_path / "base")
    causal_lm.save_pretrained(tmp_path / "instruct")
    hf = copy.deepcopy(TOKENIZER.hf)
    hf.save_pretrained(tmp_path / "base")
    hf.chat_template = TEMPLATE
    hf.save_pretrained(tmp_path / "instruct")
    base, instruct = (StepSearchModel.load(tmp_path / name).tokenizer for name in ("base", "instruct"))
    prompt = render_prompt("instructions", "who leads red")
    assert base.decode(base.encode_prompt("who leads red")) == prompt
    assert instruct.decode(instruct.encode_prompt("who leads red")) == f"[user] {prompt.strip()}\n[assistant] "
    # A model that was trained with a prompt keeps it.
    StepSearchModel(causal_lm, ModelTokenizer(hf, "question")).save(tmp_path / "trained", {})
    trained = StepSearchModel.load(tmp_path / "trained").tokenizer
    assert trained.decode(trained.encode_prompt("who leads red")) == render_prompt("question", "who leads red")
