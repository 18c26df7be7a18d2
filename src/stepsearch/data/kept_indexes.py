"""What becomes of a knowledge base's indexes when another knowledge base takes its place."""

import json
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def keep_indexes(old: Path, new: Path, fingerprint: str) -> None:
    """Move the indexes of the very same passages from one knowledge base to the next; say which others will be gone.

    An index is a folder whose manifest names, as `passages`, the fingerprint of what it was made of.

    Args:
        old: folder of the one that will go; what `new` has anew stays in it.
        new: folder of the one that comes.
        fingerprint: of the passages of `new`.
    """
    for manifest in sorted(old.glob("*/manifest.json")):
        index, made_of = manifest.parent, _made_of(manifest)
        if made_of is None or (new / index.name).exists():
            continue
        if made_of == fingerprint:
            os.replace(index, new / index.name)
        else:
            logger.warning(
                "%s was made of other passages, and goes with them: make it anew, as with stepsearch index-dense "
                "--knowledge-base %s",
                index,
                old,
            )


def _made_of(manifest: Path) -> str | None:
    """Return the fingerprint of what an index was made of; None where the folder is no index."""
    try:
        passages = json.loads(manifest.read_text(encoding="utf-8"))["passages"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return passages if isinstance(passages, str) else None
