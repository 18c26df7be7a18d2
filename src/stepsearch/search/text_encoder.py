"""Vectors of texts by a model of transformers', as sentence-transformers computes them.

Its package would bring scikit-learn and scipy for what is a forward pass, a mean and a division.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import SearchError, one_line
from stepsearch.search.encoder import Vectors, in_batches, passage_text
from stepsearch.search.encoder_files import read_encoder_files
from stepsearch.search.pretrained import load_pretrained
from stepsearch.types import Passage

if TYPE_CHECKING:
    import torch

# Of models that would read more and do not say that they should.
LONGEST_TEXT = 512


class TextEncoder:
    """A transformer whose token vectors are pooled into one.

    Args:
        model: of transformers', with `last_hidden_state`.
        tokenizer: its tokenizer.
        facts: pooling, normalize, query_prefix, passage_prefix and max_tokens, none of them None.
        batch_size: texts in a forward pass.
    """

    guards_itself = False

    def __init__(self, model: Any, tokenizer: Any, facts: Mapping[str, Any], batch_size: int = 64) -> None:
        self.facts = facts
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        # Pooling by first and last token counts from the left.
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def load(cls, name: str, settings: DenseSearchSettings) -> TextEncoder:
        """Load a model by folder or hub name, onto the GPU where there is one.

        Raises:
            SearchError: it cannot be loaded, or computes its vectors in a way that is not supported.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = load_pretrained(AutoTokenizer, name)
            model = load_pretrained(AutoModel, name, dtype=weights_type())
        except (OSError, ValueError, KeyError) as error:
            raise unloadable(name, error) from None
        facts = _facts(name, settings, min(tokenizer.model_max_length, _positions(model.config)))
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, facts, settings.batch_size)

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """Return a vector per query: [queries, dimensions]."""
        return self._encode([self.facts["query_prefix"] + query for query in queries])

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """Return a vector per passage: [passages, dimensions]."""
        return self._encode([self.facts["passage_prefix"] + passage_text(passage) for passage in passages])

    def close(self) -> None:
        """Do nothing: memory is all that it holds."""

    def _encode(self, texts: Sequence[str]) -> Vectors:
        return in_batches(texts, len, self._batch_size, self._encode_batch)

    def _encode_batch(self, texts: list[str]) -> Vectors:
        import torch

        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.facts["max_tokens"], return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state.float()
            vectors = pooled(states, tokens["attention_mask"], self.facts["pooling"])
            if self.facts["normalize"]:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return vectors.cpu().numpy()


def pooled(states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one vector per text: [texts, dimensions].

    Args:
        states: [texts, tokens, dimensions], padded on the right.
        attention_mask: [texts, tokens] 1 where there is a token.
        pooling: mean over the tokens, or the first (cls) or the last one's.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = attention_mask.sum(1) - 1
        return states[range(len(states)), last]
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def weights_type() -> Any:
    """Return the type that weights are loaded in: as they were saved on a GPU; half of it is slow on a CPU."""
    import torch

    return "auto" if torch.cuda.is_available() else torch.float32


def unloadable(name: str, error: Exception) -> SearchError:
    """Return the error that says why an encoder cannot be loaded."""
    return SearchError(
        f"search.dense.encoder: {name} cannot be loaded ({one_line(error)}): name the folder or hub name of an "
        "encoder, such as sentence-transformers/all-MiniLM-L6-v2"
    )


def _facts(name: str, settings: DenseSearchSettings, most_tokens: int) -> dict[str, Any]:
    """Return what the settings say, where they say nothing what the model does.

    Raises:
        SearchError: they ask for more tokens than the model reads.
    """
    if settings.max_tokens is not None and settings.max_tokens > most_tokens:
        raise SearchError(f"search.dense.max_tokens={settings.max_tokens}: {name} reads {most_tokens} at most")
    files = read_encoder_files(name)
    facts = {
        key: getattr(files, key) if getattr(settings, key) is None else getattr(settings, key)
        for key in ("pooling", "normalize", "query_prefix", "passage_prefix", "max_tokens")
    }
    facts["max_tokens"] = min(facts["max_tokens"] or LONGEST_TEXT, most_tokens)
    return facts


def _positions(config: Any) -> int:
    """Return how many tokens a model has positions for."""
    positions = getattr(config, "max_position_embeddings", LONGEST_TEXT)
    # RoBERTa counts its positions from behind the padding's.
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return positions - offset
