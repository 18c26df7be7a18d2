"""What a command searches, and with which engine."""

import argparse
from pathlib import Path

from stepsearch.config import SearchSettings, asked_keys, load_config
from stepsearch.data.knowledge_base import knowledge_base_beside
from stepsearch.errors import DataError
from stepsearch.search.stored_passages import StoredPassages

BM25, HYBRID = "bm25", "hybrid"
_OF_A_KNOWLEDGE_BASE = frozenset({BM25, "dense"})
_OF_NONE = frozenset({"wiki", "remote", "mcp", "mock"})


def find_corpus(settings: SearchSettings, data_file: Path | None, engine_asked: bool) -> tuple[SearchSettings, str]:
    """Return the search settings with engine and knowledge base settled, and a line that says what was chosen.

    The knowledge base that `search.knowledge_base` names, else the one beside the data file, is searched with BM25
    unless another engine was asked for. An engine that searches none is left with none, whatever a model remembers.

    Args:
        settings: as configured.
        data_file: the questions' file; None where there is none.
        engine_asked: whether the user named the engine.

    Raises:
        DataError: the knowledge base is not there or not whole.
    """
    is_open = settings.engine_type == SearchSettings().engine_type and not engine_asked
    if not is_open and needs_no_corpus(settings):
        return settings.model_copy(update={"knowledge_base": None}), f"search: {_in_words(settings)}"
    folder = Path(settings.knowledge_base).expanduser() if settings.knowledge_base else None
    beside = None
    if folder is None and data_file is not None and (is_open or _OF_A_KNOWLEDGE_BASE & _engine_types(settings)):
        folder = beside = knowledge_base_beside(data_file)
    if folder is None:
        return settings, f"search: {_in_words(settings)}"
    engine_type = BM25 if is_open else settings.engine_type
    settled = settings.model_copy(update={"engine_type": engine_type, "knowledge_base": str(folder.resolve())})
    whose = " beside the data file" if beside else ""
    return (
        settled,
        f"search: {_in_words(settled)}, knowledge base {folder}{whose} ({len(StoredPassages.open(folder)):,} passages)",
    )


def search_settings(args: argparse.Namespace) -> SearchSettings:
    """Return the settings of a command that only searches: BM25 over a knowledge base if one is named, and no retries.

    Raises:
        DataError: the knowledge base is not there.
    """
    settings = load_config(args.config, args.overrides).search
    asked = asked_keys(args.config, args.overrides)
    if "search.retries" not in asked:
        # Its clients try again themselves, and while it does nobody else is answered.
        settings = settings.model_copy(update={"retries": 0})
    named = args.knowledge_base or (Path(settings.knowledge_base) if settings.knowledge_base else None)
    if named is None:
        return settings
    folder = named.expanduser()
    if not folder.is_dir():
        raise DataError(f"knowledge base {folder} is not there: name another folder, or make it with stepsearch index")
    engine_type = settings.engine_type if "search.engine_type" in asked else BM25
    return settings.model_copy(update={"knowledge_base": str(folder.resolve()), "engine_type": engine_type})


def needs_no_corpus(settings: SearchSettings) -> bool:
    """Return whether no engine of the settings searches a knowledge base."""
    return _engine_types(settings) <= _OF_NONE


def _engine_types(settings: SearchSettings) -> set[str]:
    """Return the engines that search: those that are fused in place of hybrid."""
    if settings.engine_type == HYBRID:
        return {part.engine_type for part in settings.hybrid_parts()}
    return {settings.engine_type}


def _in_words(settings: SearchSettings) -> str:
    """Return which engine it is, and where it searches."""
    match settings.engine_type:
        case "remote":
            return f"remote, {settings.remote.url}"
        case "wiki":
            return f"wiki, {settings.wiki.language}.wikipedia.org"
        case "hybrid":
            return f"hybrid of {' and '.join(_in_words(part) for part in settings.hybrid_parts())}"
        case other:
            return other
