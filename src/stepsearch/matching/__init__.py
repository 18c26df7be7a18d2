"""Comparing texts: answers with answers, documents with documents."""
