import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from stepsearch.config import ModelSettings, load_config
from stepsearch.errors import ModelError
from stepsearch.hub_lookup import HubAnswer
from stepsearch.models import ModelTokenizer, StepSearchModel, model_folder, output_head
from stepsearch.models.step_search_model import model_record
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer

TOKENIZER = ModelTokenizer(build_tiny_tokenizer(), "question")
SHAPE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def qwen() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True, initializer_range=0.2))


def gemma_with_capped_logits() -> PreTrainedModel:
    return Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0, initializer_range=0.5, sliding_window=8)
    )


def gpt2_with_dropout() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENIZER), n_embd=16, n_layer=2, n_head=2, n_positions=64))


def batch() -> tuple[Tensor, Tensor]:
    input_ids = torch.randint(0, len(TOKENIZER), (3, 12), generator=torch.Generator().manual_seed(1))
    response_mask = torch.zeros(3, 12, dtype=torch.long)
    response_mask[0, 4:] = 1
    response_mask[1, [3, 4, 9]] = 1
    return input_ids, response_mask


def as_in_full(causal_lm: PreTrainedModel, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and entropies [B, T] of all tokens from the model's own full logits."""
    logits = causal_lm.eval()(input_ids=input_ids).logits[:, :-1] / temperature
    distribution = torch.distributions.Categorical(logits=logits)
    pad = torch.nn.functional.pad
    return pad(distribution.log_prob(input_ids[:, 1:]), (1, 0)), pad(distribution.entropy(), (1, 0))


@pytest.mark.parametrize("build", [qwen, gemma_with_capped_logits, gpt2_with_dropout])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_the_models_own_logits(build, temperature: float) -> None:
    torch.manual_seed(0)
    policy = StepSearchModel(build(), TOKENIZER).train()
    input_ids, mask = batch()
    logprobs, entropy, values = policy(input_ids, mask, temperature)
    expected_logprobs, expected_entropy = as_in_full(policy.causal_lm, input_ids, temperature)
    torch.testing.assert_close(logprobs, expected_logprobs * mask, rtol=0, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy * mask, rtol=0, atol=1e-5)
    assert values is None


def long_batch() -> tuple[Tensor, Tensor]:
    """Return ids and mask of 78 sampled tokens."""
    input_ids = torch.randint(0, len(TOKENIZER), (2, 40), generator=torch.Generator().manual_seed(2))
    return input_ids, (torch.arange(40) > 0).long().expand(2, 40)


def scores_and_gradient(policy: StepSearchModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities, entropies, and the gradient of a sum of both with respect to the embedding."""
    policy.zero_grad()
    logprobs, entropy, _ = policy(*long_batch(), 0.7)
    (logprobs.sum() + 0.3 * entropy.sum()).backward()
    return logprobs.detach(), entropy.detach(), policy.causal_lm.get_input_embeddings().weight.grad.clone()


@pytest.mark.parametrize("build", [qwen, gemma_with_capped_logits])
def test_large_vocabularies_are_projected_in_pieces(build, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    policy = StepSearchModel(build(), TOKENIZER)
    whole = scores_and_gradient(policy)
    monkeypatch.setattr(output_head, "PROJECTION_ELEMENTS", 3 * len(TOKENIZER))
    pieces = scores_and_gradient(policy)
    torch.testing.assert_close(pieces[0], whole[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(pieces[1], whole[1], rtol=0, atol=1e-5)
    # A gradient is a sum in another order: single small entries may differ by more than their size would allow.
    assert float((pieces[2] - whole[2]).norm() / whole[2].norm()) < 1e-5


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that a tensor made meanwhile has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        made = operation(*arguments, **(named or {}))
        for result in made if isinstance(made, (tuple, list)) else (made,):
            self.elements = max(self.elements, result.numel() if isinstance(result, Tensor) else 0)
        return made


@pytest.mark.parametrize("build", [qwen, gemma_with_capped_logits])
def test_neither_forward_nor_backward_pass_makes_logits_of_all_tokens(build, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = StepSearchModel(build(), TOKENIZER)
    with LargestTensor() as whole:
        scores_and_gradient(policy)
    assert whole.elements == 78 * len(TOKENIZER)
    monkeypatch.setattr(output_head, "PROJECTION_ELEMENTS", 3 * len(TOKENIZER))
    with LargestTensor() as pieces:
        scores_and_gradient(policy)
    # As large as the embedding, of 16 numbers a token, and its gradient.
    assert pieces.elements == 16 * len(TOKENIZER)


def test_distributions_are_those_of_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = StepSearchModel(gemma_with_capped_logits(), TOKENIZER)
    monkeypatch.setattr(output_head, "PROJECTION_ELEMENTS", 4 * len(TOKENIZER))
    input_ids, mask = batch()
    pieces = list(policy.log_distributions(input_ids, mask, as_loaded=False))
    assert [len(piece) for piece in pieces] == [4, 4, 3]
    chosen = mask[:, 1:].bool()
    found = torch.cat(pieces).gather(1, input_ids[:, 1:][chosen][:, None])[:, 0]
    torch.testing.assert_close(found, policy(input_ids, mask).logprobs[:, 1:][chosen].detach())


def test_entropy_is_left_out_where_nothing_reads_it() -> None:
    assert StepSearchModel(qwen(), TOKENIZER)(*batch(), with_entropy=False).entropy is None


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    policy = StepSearchModel(gpt2_with_dropout(), TOKENIZER)
    expected = torch.autograd.grad(policy(*batch()).logprobs.sum(), list(policy.parameters()))
    policy.enable_gradient_checkpointing()
    gradients = torch.autograd.grad(policy(*batch()).logprobs.sum(), list(policy.parameters()))
    torch.testing.assert_close(gradients, expected)


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    config = BertConfig(vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ModelError, match="sees later tokens"):
        StepSearchModel(BertLMHeadModel(config), TOKENIZER)


def test_weights_that_are_no_numbers_are_refused() -> None:
    causal_lm = qwen()
    torch.nn.init.constant_(causal_lm.get_input_embeddings().weight, torch.nan)
    with pytest.raises(ModelError, match="its weights are damaged"):
        StepSearchModel(causal_lm, TOKENIZER)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    config = Qwen2Config(**{**SHAPE, "vocab_size": 50})
    with pytest.raises(ModelError, match=rf"knows {len(TOKENIZER)} tokens, and the model has 50"):
        StepSearchModel(Qwen2ForCausalLM(config), TOKENIZER)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "policy"
    StepSearchModel(qwen(), TOKENIZER).save(folder, model_record(load_config()))
    return folder


def test_a_saved_model_is_an_ordinary_checkpoint_with_our_record(saved: Path) -> None:
    policy = StepSearchModel.load(saved)
    input_ids, mask = batch()
    theirs = AutoModelForCausalLM.from_pretrained(saved)
    torch.testing.assert_close(policy(input_ids, mask).logprobs, as_in_full(theirs, input_ids, 1.0)[0] * mask)
    assert AutoTokenizer.from_pretrained(saved).get_vocab() == TOKENIZER.hf.get_vocab()
    record = json.loads((saved / "stepsearch.json").read_text(encoding="utf-8"))
    assert record == policy.record
    assert record["prompt"] == policy.tokenizer.prompt_style == "question"
    assert record["grammar"][:2] == ["<think>", "</think>"]
    assert record["model"] == {"max_length": 2048}
    assert "sampled_in" not in record
    assert (record["reward"]["max_search_steps"], record["reward"]["step_scale"], record["search"]["top_k"]) == (
        5,
        1,
        3,
    )


def test_a_prompt_style_that_is_asked_for_wins(saved: Path) -> None:
    assert (
        StepSearchModel.load(ModelSettings(name=str(saved), prompt="instructions")).tokenizer.prompt_style
        == "instructions"
    )


def test_saving_replaces_what_stood_there(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "leftover").write_text("")
    StepSearchModel.load(folder).save(folder, {"model": {"max_length": 9}})
    assert not (folder / "leftover").exists()
    assert StepSearchModel.load(folder).record["model"] == {"max_length": 9}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        StepSearchModel(qwen(), TOKENIZER).save(tmp_path / "file" / "model", {})


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def drop_a_weight(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3, "layer_types": None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"model folder .* does not exist"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "missing, damaged or of another kind"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda folder: (folder / "stepsearch.json").write_text("["), r"stepsearch\.json is not JSON"),
        (lambda folder: (folder / "stepsearch.json").write_text("[]"), "does not hold a JSON object"),
        (cut_weights, "damaged"),
        (drop_a_weight, r"the weights lack model\.layers\.2"),
    ],
)
def test_a_damaged_folder_gives_one_clear_line(saved: Path, tmp_path: Path, damage, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        StepSearchModel.load(folder)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_its_settings_is_told_from_another_models(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="they do not match") as error:
        StepSearchModel.load(folder)
    assert f"; {folder} has no tokenizer_config.json, which says which tokens" in str(error.value)


def test_a_runs_folders_name_its_model(saved: Path, tmp_path: Path) -> None:
    model = tmp_path / "run" / "checkpoints" / "best_model"
    shutil.copytree(saved, model)
    checkpoint = model.with_name("step-000012")
    checkpoint.mkdir()
    for folder in (tmp_path / "run", model.parent, checkpoint):
        with pytest.raises(ModelError, match=r"has no config\.json") as error:
            StepSearchModel.load(folder)
        assert str(error.value).endswith(f"; {model} is one")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./not/there", "does not exist"),
        ("~/surely/not/there", "does not exist"),
        ("some/folder/there", "does not exist"),
        (__file__, "is a file"),
    ],
)
def test_a_name_that_can_only_be_a_folder(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        StepSearchModel.load(name)


def test_without_a_network_a_hub_name_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder, "ask_hub", lambda name: HubAnswer.SILENT)
    with pytest.raises(ModelError, match=r"nobody/nothing is no folder here, and the hub cannot be reached"):
        StepSearchModel.load("nobody/nothing")
