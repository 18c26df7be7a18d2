"""What decides the results of a configured engine: its settings and its corpus."""

import hashlib
import json
from pathlib import Path
from typing import Any

from stepsearch.config import SearchSettings, Section
from stepsearch.errors import SearchError
from stepsearch.search.stored_passages import StoredPassages

# Settings of engines that decide how they ask, and not what they find.
_MANNERS = frozenset({"token_variable", "batch_size", "contact", "requests_per_second", "environment"})


def engine_identity(settings: SearchSettings, knowledge_base: Path | None) -> str:
    """Return a text that is equal for two engines only if they find the same.

    What a server far away searches is not known: its address stands for it.

    Raises:
        DataError: the knowledge base cannot be read.
        SearchError: the canned results or the dense index cannot.
    """
    own = getattr(settings, settings.engine_type, None)
    identity: dict[str, Any] = {
        "engine": settings.engine_type,
        "settings": own.model_dump(mode="json", exclude=set(_MANNERS)) if isinstance(own, Section) else None,
        "corpus": None if knowledge_base is None else StoredPassages.open(knowledge_base).fingerprint,
    }
    if settings.engine_type == "mock" and settings.mock.results is not None:
        identity["canned"] = _digest(Path(settings.mock.results).expanduser(), "search.mock.results")
    if settings.engine_type == "dense" and knowledge_base is not None:
        identity["index"] = _digest(knowledge_base / settings.dense.index / "manifest.json", "search.dense.index")
    if settings.engine_type == "hybrid":
        identity["parts"] = [
            engine_identity(part, None if part.knowledge_base is None else Path(part.knowledge_base))
            for part in hybrid_parts(settings, knowledge_base)
        ]
    return json.dumps(identity, sort_keys=True)


def hybrid_parts(settings: SearchSettings, knowledge_base: Path | None) -> list[SearchSettings]:
    """Return the settings of each engine that `hybrid` fuses; one that names no knowledge base gets the given one."""
    given = None if knowledge_base is None else str(knowledge_base)
    return settings.model_copy(update={"knowledge_base": given}).hybrid_parts()


def _digest(path: Path, key: str) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise SearchError(f"{key}: {path} cannot be read: {error.strerror}") from None
