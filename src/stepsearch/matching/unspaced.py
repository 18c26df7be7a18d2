"""Writing that puts no spaces between words."""

UNSPACED = "\u3041-\u3096\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Ideographs and hiragana, as ranges of a regular expression's character class: each counts as a word of its own."""
