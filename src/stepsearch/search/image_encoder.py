"""Vectors of images and texts in one space, by a CLIP-style model of transformers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import DataError, SearchError
from stepsearch.search.encoder import Vectors, in_batches, passage_text
from stepsearch.search.pretrained import load_pretrained
from stepsearch.search.text_encoder import unloadable, weights_type
from stepsearch.types import Passage


class ImageEncoder:
    """Encodes queries as texts, and passages as the images that they show; those that show none as texts.

    Args:
        model: of transformers', with `get_text_features` and `get_image_features`.
        tokenizer: its tokenizer.
        processor: its image processor.
        image_folder: where relative paths of images begin.
        batch_size: texts or images in a forward pass.
    """

    guards_itself = False

    def __init__(self, model: Any, tokenizer: Any, processor: Any, image_folder: Path, batch_size: int = 64) -> None:
        self.facts: Mapping[str, Any] = {}
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._processor = processor
        self._image_folder = image_folder
        self._batch_size = batch_size

    @classmethod
    def load(cls, name: str, settings: DenseSearchSettings, image_folder: Path) -> ImageEncoder:
        """Load a model by folder or hub name, onto the GPU where there is one.

        Raises:
            SearchError: it cannot be loaded, or a setting is made that it has no use for.
        """
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        for key in ("pooling", "normalize", "query_prefix", "passage_prefix", "max_tokens"):
            if getattr(settings, key) is not None:
                raise SearchError(f"search.dense.{key} is not for {name}, a model of images and texts: leave it out")
        try:
            model = load_pretrained(AutoModel, name, dtype=weights_type())
            tokenizer, processor = load_pretrained(AutoTokenizer, name), load_pretrained(AutoImageProcessor, name)
        except (OSError, ValueError, KeyError) as error:
            raise unloadable(name, error) from None
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, tokenizer, processor, image_folder, settings.batch_size)

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """Return a vector per query: [queries, dimensions]."""
        return in_batches(queries, len, self._batch_size, self._encode_texts)

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """Return a vector per passage: [passages, dimensions].

        Raises:
            DataError: an image is not there, or is none.
        """
        import numpy as np

        shown = [place for place, passage in enumerate(passages) if passage.image is not None]
        written = [place for place, passage in enumerate(passages) if passage.image is None]
        encoded: list[tuple[list[int], Vectors]] = []
        if shown:
            images = [passages[place] for place in shown]
            # All images are as large as each other once they are prepared.
            encoded.append((shown, in_batches(images, lambda _: 0, self._batch_size, self._encode_images)))
        if written:
            texts = [passage_text(passages[place]) for place in written]
            encoded.append((written, self.encode_queries(texts)))
        vectors = np.empty((len(passages), encoded[0][1].shape[1]), dtype=np.float32)
        for places, found in encoded:
            vectors[places] = found
        return vectors

    def close(self) -> None:
        """Do nothing: memory is all that it holds."""

    def _encode_texts(self, texts: list[str]) -> Vectors:
        import torch

        longest = min(self._tokenizer.model_max_length, self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            features = self._model.get_text_features(**tokens.to(self._model.device)).pooler_output
        return _normalized(features)

    def _encode_images(self, passages: list[Passage]) -> Vectors:
        import torch

        images = [read_image(passage, self._image_folder) for passage in passages]
        pixels = self._processor(images=images, return_tensors="pt")
        with torch.inference_mode():
            features = self._model.get_image_features(**pixels.to(self._model.device)).pooler_output
        return _normalized(features)


def read_image(passage: Passage, folder: Path) -> Any:
    """Return the image that a passage shows, in colours.

    Raises:
        DataError: it is not there, is none, or has to be downloaded first.
    """
    # matplotlib brings it.
    from PIL import Image, UnidentifiedImageError

    reference = passage.image or ""
    if "://" in reference:
        raise DataError(
            f"passage {passage.id}: the image {reference} is an address, and images are read from files: download it "
            "and name the file"
        )
    try:
        with Image.open(folder / reference) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"passage {passage.id}: its image {folder / reference} cannot be read ({error}): mend the path, or say "
            "with search.dense.image_folder where paths begin"
        ) from None


def _normalized(features: Any) -> Vectors:
    import torch

    return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
