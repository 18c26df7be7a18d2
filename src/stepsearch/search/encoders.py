"""The encoder that settings name: a model of texts, one of images and texts, or an endpoint."""

from pathlib import Path

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import SearchError
from stepsearch.search.embedding_endpoint import EndpointEncoder
from stepsearch.search.encoder import Encoder
from stepsearch.search.encoder_files import reads_images
from stepsearch.search.image_encoder import ImageEncoder
from stepsearch.search.patient_http import Patience
from stepsearch.search.text_encoder import TextEncoder


def load_encoder(settings: DenseSearchSettings, patience: Patience, image_folder: Path) -> Encoder:
    """Return the encoder that `settings.encoder` and `settings.url` name.

    Args:
        settings: what they leave open is as the model says.
        patience: with an endpoint.
        image_folder: where images' paths begin, unless the settings say.

    Raises:
        SearchError: none is named, or it cannot be loaded.
    """
    name = settings.encoder
    if not name:
        raise SearchError(
            "dense search needs an encoder: set search.dense.encoder to the folder or hub name of one, such as "
            "sentence-transformers/all-MiniLM-L6-v2"
        )
    if settings.url is not None:
        return EndpointEncoder.load(name, settings, patience)
    if reads_images(name):
        folder = image_folder if settings.image_folder is None else Path(settings.image_folder).expanduser()
        return ImageEncoder.load(name, settings, folder)
    return TextEncoder.load(name, settings)
