"""Where the genuine benchmark samples are."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("STEPSEARCH_REAL_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no genuine benchmark samples at {folder} (set STEPSEARCH_REAL_DATA)")
    return folder
