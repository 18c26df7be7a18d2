"""Train language models to search, with a reward for every search step."""

__version__ = "0.1.0"
