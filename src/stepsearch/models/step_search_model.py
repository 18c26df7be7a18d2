"""The policy: any transformers causal LM, with log-probabilities of sampled tokens, loading and saving.

Shapes: B episodes, T positions (right-padded), N sampled tokens, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stepsearch.config import Config, ModelSettings, as_mapping
from stepsearch.errors import ModelError
from stepsearch.models.adapters import ACTOR, Adapters, using
from stepsearch.models.end_ids import end_ids
from stepsearch.models.model_folder import (
    TOKENIZER_SETTINGS,
    has_tokenizer_settings,
    load_causal_lm,
    load_hf_tokenizer,
    read_record,
    save_model_folder,
)
from stepsearch.models.output_head import OutputHead, score_tokens
from stepsearch.models.tensor_shares import whole_tensor
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.models.trunk import (
    chosen_device,
    enable_gradient_checkpointing,
    hidden_before,
    sampled_in_half,
    scatter_to_mask,
)
from stepsearch.models.value_model import ValueHead

HEAD_TOLERANCE = 1e-4


class TokenScores(NamedTuple):
    """What a forward pass says about sampled tokens; each [B, T], 0 off the mask, None where not computed."""

    logprobs: Tensor
    entropy: Tensor | None
    values: Tensor | None


class StepSearchModel(nn.Module):
    """A causal LM as a policy.

    Attributes:
        causal_lm: the transformers model; sampling in process reads the same weights.
        tokenizer: its tokenizer.
        record: what `stepsearch.json` said when it was loaded; empty for a model that was not saved here.
        value_head: critic on the policy's own trunk; None with a critic of its own.
        adapters: what learns in place of the weights; None in full fine-tuning.
    """

    def __init__(
        self, causal_lm: PreTrainedModel, tokenizer: ModelTokenizer, record: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        rows = causal_lm.config.get_text_config().vocab_size
        if len(tokenizer) > rows:
            folder = tokenizer.hf.name_or_path
            cause = f"; {folder} has no {TOKENIZER_SETTINGS}, which says which tokens are special: copy it there, too"
            raise ModelError(
                f"the tokenizer knows {len(tokenizer)} tokens, and the model has {rows}: they do not match"
                f"{'' if has_tokenizer_settings(folder) else cause}"
            )
        self.causal_lm = causal_lm.eval()
        self.tokenizer = tokenizer
        self.record = dict(record or {})
        self.value_head: ValueHead | None = None
        self.adapters: Adapters | None = None
        self._head = _understood_head(self.causal_lm)

    @classmethod
    def load(cls, settings: ModelSettings | str | Path) -> "StepSearchModel":
        """Return the policy of a folder or hub name, on the machine's accelerator if it has one.

        Raises:
            ConfigError: there is no such device.
            ModelError: the folder is missing or incomplete, a file is damaged, the hub cannot be reached, or the
                model is no causal LM.
        """
        if not isinstance(settings, ModelSettings):
            settings = ModelSettings(name=str(settings))
        name = str(Path(settings.name).expanduser()) if settings.name.startswith("~") else settings.name
        hf_tokenizer, record = load_hf_tokenizer(name), read_record(name)
        style = record.get("prompt", "auto") if settings.prompt == "auto" else settings.prompt
        causal_lm = load_causal_lm(name, dtype=settings.dtype, attention=settings.attention)
        tokenizer = ModelTokenizer(hf_tokenizer, style, end_ids(causal_lm))
        cast(nn.Module, causal_lm).to(chosen_device(settings.device))
        return cls(causal_lm, tokenizer, record)

    def save(self, folder: str | Path, record: Mapping[str, Any], weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a folder that transformers and vLLM load as it is, with `record` in `stepsearch.json`.

        An adapter is worked into the weights, and lies in `adapter/` as peft reads it too. The folder appears whole or
        not at all; one that stood there is replaced.

        Args:
            folder: where.
            record: what a saved model has to remember.
            weights: of the causal LM, where the model itself has but a share of them.
        """
        prompt = {"prompt": self.tokenizer.prompt_style}
        remembered = {**record, **prompt}
        save_model_folder(Path(folder), self.causal_lm, self.tokenizer.hf, remembered, self.adapters, weights)

    def weights(self) -> Iterable[tuple[str, Tensor]]:
        """Return each weight of the model under its name, an adapter worked in; one at a time is in memory.

        Weights that are tied come under each of their names: an engine may keep a copy of its own behind every one.
        Where processes keep a share of each weight, all of them have to ask.
        """
        if self.adapters is None:
            return ((name, whole_tensor(weight)) for name, weight in self.causal_lm.state_dict().items())
        return self.adapters.merged(self.causal_lm)

    def train(self, mode: bool = True) -> "StepSearchModel":
        """Keep dropout off: the distribution that is trained has to be the one that was sampled from."""
        return super().train(False)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each layer in the backward pass instead of keeping its activations."""
        enable_gradient_checkpointing(self.causal_lm)

    def forward(
        self, input_ids: Tensor, response_mask: Tensor, temperature: float = 1.0, with_entropy: bool = True
    ) -> TokenScores:
        """Return log-probability and entropy of every sampled token under the temperature-scaled policy.

        The token at position p is scored given the tokens before it, so from the hidden state at p - 1. Only masked
        positions are projected to the vocabulary.

        Args:
            input_ids: [B, T] prompt and response, right-padded.
            response_mask: [B, T] 1 where the policy sampled the token; never at position 0.
            temperature: divides the logits, as when sampling.
            with_entropy: False leaves the entropy out where nothing reads it.
        """
        with using(self.adapters, ACTOR):
            return self._scores(input_ids, response_mask, temperature, with_entropy)

    def score_as_loaded(
        self, input_ids: Tensor, response_mask: Tensor, temperature: float, with_entropy: bool
    ) -> TokenScores:
        """Return what `forward` does with all adapters off."""
        with using(self.adapters, None):
            return self._scores(input_ids, response_mask, temperature, with_entropy)

    @torch.no_grad()
    def log_distributions(self, input_ids: Tensor, response_mask: Tensor, *, as_loaded: bool) -> Iterator[Tensor]:
        """Yield the log-probabilities [n, V] of every token in the place of each sampled one, some places at a time.

        Args:
            input_ids: as in `forward`.
            response_mask: as in `forward`.
            as_loaded: with all adapters off.
        """
        chosen = response_mask[:, 1:].bool()
        adapter = None if as_loaded else ACTOR
        if self._head is None:
            with using(self.adapters, adapter):
                logits = self.causal_lm(input_ids=input_ids, use_cache=False).logits[:, :-1][chosen]
            yield torch.log_softmax(logits.float(), dim=-1)
            return
        with using(self.adapters, adapter):
            hidden = hidden_before(cast(PreTrainedModel, self.causal_lm.get_decoder()), input_ids, chosen)
        for states in self._head.pieces(hidden):
            with using(self.adapters, adapter):
                log_distribution = torch.log_softmax(self._head.logits(states).float(), dim=-1)
            yield log_distribution

    def _scores(self, input_ids: Tensor, response_mask: Tensor, temperature: float, with_entropy: bool) -> TokenScores:
        chosen = response_mask[:, 1:].bool()
        targets = input_ids[:, 1:][chosen]
        if self._head is not None:
            hidden = hidden_before(cast(PreTrainedModel, self.causal_lm.get_decoder()), input_ids, chosen)
            logprobs, entropy = self._head.score(hidden, targets, temperature, with_entropy)
        else:
            output = self.causal_lm(input_ids=input_ids, use_cache=False, output_hidden_states=True)
            hidden = output.hidden_states[-1][:, :-1][chosen]
            logprobs, entropy = score_tokens(output.logits[:, :-1][chosen], targets, temperature, with_entropy)
        return TokenScores(
            scatter_to_mask(logprobs, chosen),
            None if entropy is None else scatter_to_mask(entropy, chosen),
            None if self.value_head is None else scatter_to_mask(self.value_head(hidden), chosen),
        )


def model_record(config: Config) -> dict[str, Any]:
    """Return what a saved model has to remember, shaped like the settings: context, search, budgets and reward.

    `sampled_in` is no setting: the type of weights that training samples from on an accelerator, where it is a copy.
    """
    return {
        **({"sampled_in": "bfloat16"} if sampled_in_half(config) else {}),
        "model": {"max_length": config.model.max_length},
        "search": as_mapping(config.search),
        # Which engine there is, is a matter of the machine.
        "rollout": {key: value for key, value in as_mapping(config.rollout).items() if key != "engine"},
        "reward": as_mapping(config.reward),
        "training": {"threads": config.training.threads, "workers": config.training.workers},
    }


@torch.no_grad()
def _understood_head(causal_lm: PreTrainedModel) -> OutputHead | None:
    """Return what turns the decoder's hidden states into the model's logits; None where that does not give them.

    The logits of such a model are then computed whole.

    Raises:
        ModelError: the logits are not numbers, or a later token changes an earlier prediction, so this is no causal LM.
    """
    vocabulary = causal_lm.config.get_text_config().vocab_size
    ids = torch.arange(16, device=causal_lm.device).view(2, 8) % vocabulary
    ids[1, :-1] = ids[0, :-1]
    logits = causal_lm(input_ids=ids, use_cache=False).logits.float()
    if bool(logits.isnan().any()):
        raise ModelError(f"{type(causal_lm).__name__} gives scores that are not numbers: its weights are damaged")
    tolerance = HEAD_TOLERANCE * float(logits.abs().max())
    if not torch.allclose(logits[0, :-1], logits[1, :-1], rtol=0, atol=tolerance):
        raise ModelError(f"{type(causal_lm).__name__} sees later tokens: a policy has to be a causal language model")
    hidden = causal_lm.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    weight = getattr(causal_lm.get_output_embeddings(), "weight", None)
    if weight is None or hidden.shape[-1] != weight.shape[-1]:
        return None
    head = OutputHead(causal_lm)
    return head if torch.allclose(head.logits(hidden).float(), logits, rtol=0, atol=tolerance) else None
