"""What the command-line tests share: the genuine samples, a small world of generated data, and small models."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from stepsearch.cli.assembly import build_policy
from stepsearch.cli.players import use_threads
from stepsearch.config import WorldSettings, load_config
from stepsearch.data import read_questions
from stepsearch.data.synthetic import write_world
from stepsearch.models.step_search_model import model_record
from stepsearch.preparation.pipeline import prepare
from stepsearch.search import build_search_engine

PROJECT = Path(__file__).parents[2]
SAMPLES = {
    "musique_ans_v1.0_dev.sample100.jsonl": "musique_ans_v1.0_dev.jsonl",
    "hotpot_dev_distractor_v1.sample100.json": "hotpot_dev_distractor_v1.json",
    "2wikimultihop_dev.sample.json": "2wikimultihop_dev.json",
    "bamboogle_test.sample60.jsonl": "bamboogle_test.jsonl",
}


@pytest.fixture(scope="session")
def benchmarks(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the genuine samples under their published names, and a part of MuSiQue's as its train file."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for sample, published in SAMPLES.items():
        shutil.copy(real_data / sample, folder / published)
    with (folder / "musique_ans_v1.0_dev.jsonl").open(encoding="utf-8") as dev:
        head = "".join(islice(dev, 60))
    (folder / "musique_ans_v1.0_train.jsonl").write_text(head, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `raw` with a small generated world, and `data` with what prepare-data makes of it."""
    folder = tmp_path_factory.mktemp("world")
    settings = WorldSettings(train_questions=40, dev_questions=12, test_questions=12, scale=0.05)
    write_world(folder / "raw", settings, seed=0)
    prepare(folder / "raw", folder / "data", build_knowledge_base=True, report=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any causal LM: a random two-layer Qwen2 with a byte-level BPE tokenizer that spells the tags."""
    folder = tmp_path_factory.mktemp("models") / "qwen"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(["Answer the question by searching for what you do not know."], trainer)
    hf_tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    config = Qwen2Config(
        vocab_size=len(hf_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=hf_tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    hf_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def searching_policy(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy after so short a warm start that it searches, and is wrong."""
    folder = tmp_path_factory.mktemp("models") / "searching"
    knowledge_base = world / "data" / "knowledge_base"
    config = load_config(
        PROJECT / "config" / "tiny.yaml",
        [
            f"search.knowledge_base={knowledge_base}",
            "warm_start.phases=[{kind: demonstrations, updates: 80, tokens: 1024}]",
            "warm_start.warmup_updates=10",
        ],
    )
    use_threads(config)
    questions = read_questions(world / "data" / "train_processed.json")
    policy = build_policy(config, questions, build_search_engine(config.search))
    policy.save(folder, model_record(config))
    return folder
