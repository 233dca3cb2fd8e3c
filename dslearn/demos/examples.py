"""Texts to begin with: from documents that no model of this course has seen."""

from __future__ import annotations

from functools import lru_cache

from dslearn.data import Document, load_documents

EXAMPLES = ("prose 1", "prose 2", "prose 3", "code 1", "code 2", "code 3")


def example(name: str, length: int) -> Document:
    """One of ``EXAMPLES``: the beginning of a document of the test split, of ``length`` characters at most."""
    domain, number = name.split()
    return _examples(domain, length)[int(number) - 1]


@lru_cache
def _examples(domain: str, length: int) -> list[Document]:
    """The first documents that are long enough, cut between two words."""
    long = [document for document in load_documents(domain, "test") if len(document.text) > length]
    return [Document(document.path, domain, _beginning(document.text, length)) for document in long[:3]]


def _beginning(text: str, length: int) -> str:
    return text[: text.rfind(" ", 0, length)].rstrip()
