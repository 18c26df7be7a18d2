"""The tiny policy: a tokenizer without unknown tokens, an ordinary checkpoint, and heads that already copy."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM, Qwen2Tokenizer

from stepsearch.data.synthetic import FIRST_NAMES, SYLLABLES, build_worlds
from stepsearch.models.tiny import build_tiny_policy
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer, name_token_groups, single_piece_texts
from stepsearch.protocol import TAGS

REAL_TEXTS = [
    "When did the Peloponnesian War end? In 404 BC, naïve café owners said: “It’s over!”",
    "北京是中华人民共和国的首都。你好，世界！",
    "Αθήνα — Ελλάδα; Привет, мир; مرحبا; 🙂🙃",
    "  two  spaces,\ttabs\r\nand\n\nlines ",
    "x = {'a': [1, 2.5e-3]}  # code <b>html</b> </thinking>",
]


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return build_tiny_tokenizer()


@pytest.fixture(scope="module")
def causal_lm() -> Qwen2ForCausalLM:
    return build_tiny_policy(0)[0]


def encode(tokenizer: Qwen2Tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", REAL_TEXTS)
def test_any_text_comes_back(tokenizer: Qwen2Tokenizer, text: str) -> None:
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id not in ids


def test_size_and_special_tokens(tokenizer: Qwen2Tokenizer) -> None:
    assert len(tokenizer) < 1200
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert sorted(tokenizer.all_special_tokens) == ["<eos>", "<pad>"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_one_token_and_stays_when_special_tokens_are_skipped(tokenizer: Qwen2Tokenizer, tag: str) -> None:
    assert len(encode(tokenizer, tag)) == 1
    assert tokenizer.decode(encode(tokenizer, f"a{tag}b"), skip_special_tokens=True) == f"a{tag}b"


def test_every_name_is_two_pieces_of_the_groups(tokenizer: Qwen2Tokenizer) -> None:
    first, second, given = map(set, name_token_groups(tokenizer))
    assert (len(first), len(second), len(given)) == (240, 240, 50)
    names = [f" {one.capitalize()}{other}" for one in SYLLABLES for other in SYLLABLES[::7]]
    for ids in tokenizer(names, add_special_tokens=False)["input_ids"]:
        assert len(ids) == 2
        assert ids[0] in first
        assert ids[1] in second
    for ids in tokenizer([f" {name}" for name in FIRST_NAMES], add_special_tokens=False)["input_ids"]:
        assert len(ids) == 1
        assert ids[0] in given


def test_words_of_the_world_and_the_grammar_are_one_piece_and_no_name_piece(tokenizer: Qwen2Tokenizer) -> None:
    of_names = {index for group in name_token_groups(tokenizer)[:2] for index in group}
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    for text in single_piece_texts():
        for word, _ in splitter.pre_tokenize_str(re.sub(r"\{\w*\}|</?\w+>", "\n", text)):
            ids = encode(tokenizer, word.replace("Ġ", " ").replace("Ċ", "\n"))
            assert len(ids) == 1, word
            assert ids[0] not in of_names, word


def test_a_passage_of_the_world_spends_few_tokens(tokenizer: Qwen2Tokenizer) -> None:
    world, *_ = build_worlds(0.05, seed=0)
    lengths = [len(encode(tokenizer, f" {passage}")) for passage in world.passages.values()]
    assert max(lengths) <= 30


def test_reloads_to_the_same_ids_and_logits(
    causal_lm: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, tmp_path: Path
) -> None:
    causal_lm.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, loaded_tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "Question: Who is Bela Tornir 北?\n<think> plan: author</think><search> Tornir author</search>"
    ids = encode(tokenizer, text)
    assert encode(loaded_tokenizer, text) == ids
    assert loaded_tokenizer.decode(ids) == text
    with torch.no_grad():
        assert torch.equal(loaded(torch.tensor([ids])).logits, causal_lm(torch.tensor([ids])).logits)
    assert loaded.config.model_type == "qwen2"


def test_the_policy_is_a_function_of_its_seed_alone(causal_lm: Qwen2ForCausalLM) -> None:
    torch.manual_seed(99)
    again, _ = build_tiny_policy(0)
    other, _ = build_tiny_policy(1)
    pairs = list(zip(causal_lm.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(other.lm_head.weight, again.lm_head.weight)
    assert sum(parameter.numel() for parameter in again.parameters()) < 600_000


def test_a_larger_policy_is_as_large_as_asked(tokenizer: Qwen2Tokenizer) -> None:
    width, layers = 384, 4
    causal_lm, _ = build_tiny_policy(0, width, layers)
    attention = 3 * width**2 + 2 * width
    mlp = 3 * width * 2 * width
    assert causal_lm.num_parameters() == len(tokenizer) * width + layers * (attention + mlp + 2 * width) + width
    assert causal_lm.config.num_attention_heads == 6


@pytest.mark.parametrize(("width", "layers"), [(128, 3), (384, 4)])
def test_the_start_weights_look_back_and_lean_towards_what_followed_before(width: int, layers: int) -> None:
    """Layer 0 looks one and two tokens back; what followed before is predicted ten times as often as by chance."""
    causal_lm, _ = build_tiny_policy(0, width, layers)
    causal_lm.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(0)
    sequences = torch.stack([torch.randperm(1000, generator=generator)[:40] for _ in range(32)]) + 50
    with torch.no_grad():
        output = causal_lm(sequences.repeat(1, 2), output_attentions=True)
    first = output.attentions[0]
    for head in (0, 1):
        assert first[:, head].diagonal(-1 - head, 1, 2)[:, 10:].mean() > 0.4
    predicted = output.logits[:, 40:79].argmax(dim=2)
    assert (predicted == sequences[:, 1:]).float().mean() > 10 / 1120
