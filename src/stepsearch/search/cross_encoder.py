"""A cross-encoder: reads query and passage together, and says how well they fit."""

from collections.abc import Sequence
from typing import Any

from stepsearch.errors import SearchError, one_line
from stepsearch.search.pretrained import load_pretrained
from stepsearch.types import Passage

LONGEST_PAIR = 512


class CrossEncoder:
    """A sequence-classification model that scores pairs of query and passage.

    Args:
        model: transformers' model with one label (its logit is the score) or two (the second's minus the first's).
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", LONGEST_PAIR))
        self._longest = min(longest, LONGEST_PAIR)

    @classmethod
    def load(cls, name: str) -> "CrossEncoder":
        """Load a model by folder or hub name, onto the GPU where there is one.

        Raises:
            SearchError: it cannot be loaded, or is no model that scores pairs.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = load_pretrained(AutoTokenizer, name)
            model = load_pretrained(AutoModelForSequenceClassification, name)
        except (OSError, ValueError, KeyError) as error:
            raise SearchError(
                f"search.hybrid.reranker: the cross-encoder {name} cannot be loaded ({one_line(error)}): name the "
                "folder or hub name of a sequence-classification model"
            ) from None
        labels = model.config.num_labels
        if labels not in (1, 2):
            raise SearchError(f"search.hybrid.reranker: {name} has {labels} labels, and a cross-encoder has 1 or 2")
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)

    def scores(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Return how well each passage fits the query; more is better."""
        import torch

        if not passages:
            return []
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages]
        pairs = self._tokenizer(
            [query] * len(texts), texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self._model(**pairs.to(self._model.device)).logits.float()
        scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return scores.tolist()
