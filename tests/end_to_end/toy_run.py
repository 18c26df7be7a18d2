"""A whole StePPO run on a toy world, small enough for a test: real engine, search, rewards and trainer.

Six colours, each led by somebody. A question names a colour, a document says who leads it. Run as a script it trains in
a folder, so that a test can kill it.
"""

import random
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from stepsearch.cli.players import Player
from stepsearch.config import Config, load_config
from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.protocol import TAGS, Answer, Search, render_prompt, render_turn
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.search import SearchEngine
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer
from stepsearch.types import Passage, Question, SubQuestion

LEADERS = {"red": "kim", "green": "lee", "blue": "max", "pink": "ned", "grey": "oda", "teal": "pia"}
WORDS = ["Question", ":", "who", "leads", "Doc", "1", *LEADERS, *LEADERS.values()]
SETTINGS = {
    "model": {"max_length": 64, "prompt": "question"},
    "search": {"engine_type": "bm25", "top_k": 1},
    "rollout": {"max_turn_tokens": 8, "max_observation_tokens": 16, "max_passage_tokens": 8, "max_corrections": 0},
    "reward": {"max_search_steps": 2, "redundancy_threshold": 1.0},
    "training": {
        "batch_size": 64,
        "minibatch_size": 32,
        "update_epochs": 2,
        "microbatch_tokens": 400,
        "learning_rate": 1e-3,
        "critic_learning_rate": 3e-3,
        "warmup_ratio": 0.1,
        "critic_warmup_ratio": 0.0,
        "value_warmup_steps": 1,
        "value_warmup_epochs": 2,
        "gae_lambda": 0.95,
    },
    "evaluation": {"every_steps": 3},
    "logging": {"tensorboard": False, "checkpoint_every": 4, "trajectories_every": 2, "trajectories": 1},
}


def toy_config(overrides: Mapping[str, object]) -> Config:
    return load_config(None, [f"{key}={value}" for key, value in overrides.items()], base=SETTINGS)


def toy_passages() -> list[Passage]:
    return [Passage.from_text(f"{leader} leads {colour}") for colour, leader in LEADERS.items()]


def toy_questions() -> list[Question]:
    return [
        Question(
            id=colour,
            question=f"who leads {colour}",
            answers=(leader,),
            sub_questions=(SubQuestion(f"who leads {colour}", leader, (f"{colour} leads",)),),
            golden_passages=(passage,),
        )
        for (colour, leader), passage in zip(LEADERS.items(), toy_passages(), strict=True)
    ]


def toy_tokenizer() -> ModelTokenizer:
    special = ["<pad>", "<eos>", "<unk>", *TAGS]
    vocabulary = {token: index for index, token in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(TAGS),
    )
    return ModelTokenizer(hf, "question")


def toy_policy(seed: int) -> StepSearchModel:
    """Return a policy that knows the form of an episode, but searches half the time only, and for any colour."""
    tokenizer = toy_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=None,
        eos_token_id=min(tokenizer.eos_ids),
    )
    policy = StepSearchModel(Qwen2ForCausalLM(config), tokenizer)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    rng = random.Random(seed)
    for _ in range(60):
        input_ids, response_mask = _demonstrations(tokenizer, rng)
        loss = -policy(input_ids, response_mask, with_entropy=False).logprobs.sum() / response_mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


def _demonstrations(tokenizer: ModelTokenizer, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 32 episodes [32, T]: half of them answer without a search; queries and answers are any."""
    ids: list[list[int]] = []
    masks: list[list[int]] = []
    for index in range(32):
        asked, searched, named = (rng.choice(list(LEADERS)) for _ in range(3))
        parts = [
            (render_prompt("question", f"who leads {asked}"), 0),
            (render_turn("", Search(f"{searched} leads")), 1),
            (f"<information>Doc 1 {LEADERS[searched]} leads {searched}</information>", 0),
            (render_turn("", Answer(LEADERS[named])), 1),
        ]
        if index % 2:
            del parts[1:3]
        encoded = [(tokenizer.encode_markup(text), sampled) for text, sampled in parts]
        ids.append([token for tokens, _ in encoded for token in tokens])
        masks.append([sampled for tokens, sampled in encoded for _ in tokens])
    width = max(map(len, ids))
    ids = [row + [tokenizer.pad_id] * (width - len(row)) for row in ids]
    return torch.tensor(ids), torch.tensor([row + [0] * (width - len(row)) for row in masks])


def toy_trainer(folder: Path, config: Config, engine: SearchEngine | None = None, device: str = "cpu") -> StePPOTrainer:
    """Return a trainer of the toy policy of the config's seed; its evaluation is greedy, on the same questions."""
    policy, questions = toy_policy(config.seed).to(device), toy_questions()
    search = GuardedSearch(engine or BM25SearchEngine.from_passages(toy_passages()), retries=0)
    player = Player(policy, search, config, learns=True)
    calculator = StepSearchRewardCalculator(config.reward)

    def evaluate() -> dict[str, float]:
        episodes = player.runner(0.0).run(questions, range(len(questions)))
        rewards = calculator.score_batch(episodes)
        correct = [episode.answer == episode.question.answers[0] for episode in episodes]
        return {"em": sum(correct) / len(correct), "f1": sum(reward.answer for reward in rewards) / len(rewards)}

    return StePPOTrainer(
        policy,
        player.runner(config.rollout.temperature),
        search,
        calculator,
        questions,
        config,
        RunFolder.at(folder),
        evaluate=evaluate,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    training = {"max_steps": sys.argv[2], "workers": sys.argv[3], "batch_size": 16, "minibatch_size": 8}
    overrides = {"seed": 3, **{f"training.{key}": value for key, value in training.items()}}
    trainer = toy_trainer(Path(sys.argv[1]), toy_config(overrides))
    if "--resume" in sys.argv:
        trainer.resume()
    trainer.train()
