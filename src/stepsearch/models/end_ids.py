"""The token ids that end a sequence."""

from typing import Any

from torch import nn

from stepsearch.models.tokenization import ModelTokenizer


def end_ids(causal_lm: nn.Module) -> list[int]:
    """Return the ids that end a sequence by the model's generation config."""
    ids: Any = getattr(getattr(causal_lm, "generation_config", None), "eos_token_id", None)
    if ids is None:
        return []
    return [ids] if isinstance(ids, int) else list(ids)


def all_end_ids(causal_lm: nn.Module, tokenizer: ModelTokenizer, vocabulary: int) -> list[int]:
    """Return the ids that end a sequence, by the tokenizer and by the model's generation config, in order."""
    return sorted(index for index in {*tokenizer.eos_ids, *end_ids(causal_lm)} if index < vocabulary)
