"""English prose and Python source that every installation already has: the standard library's own.

Nothing is downloaded. *Prose* is Python's language reference as `pydoc_data.topics` carries it, one document
a topic; *code* is the standard library's own `.py` files. The text varies a little between Python versions,
so results on it are compared within one run, never with a number from elsewhere.

Files repeat one another (vendored copies, topics that quote topics), and a held-out file that nearly repeats
a training file measures memory rather than language. Hence two rules, both over hashed runs of eight words
("shingles", Broder 1997): a document most of whose shingles stand in larger documents is dropped from the
domain, and after the split a held-out document goes too if more than a small share of its shingles stand in
the training split (or, for a validation document, in the test split).
"""

from __future__ import annotations

import hashlib
import os
import re
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

DOMAINS = ("prose", "code")
SPLITS = ("train", "valid", "test")

SHINGLE_WORDS = 8
MAX_REPEATED = 0.5  # share of a document that may stand in larger documents of its domain
MAX_LEAKED = 0.1  # share of a held-out document that may stand in train (for valid: in train and test)

# Third-party code, tables printed by a program, and the prose domain itself; pdb.py carries a topic as docstring.
_EXCLUDED_NAMES = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib-dynload", "pdb.py"}
)
_WORD = re.compile(r"\w+")
_EXCLUDED_PREFIXES = ("_sysconfigdata", "config-")
# Percent of the hash range for valid, and again for test: prose has only some fifty documents.
_HELD_OUT_PERCENT: dict[str, int] = {"prose": 10, "code": 5}


@dataclass(frozen=True)
class Document:
    """One file or topic: its path within the domain (with `/`), its domain and its whole text."""

    path: str
    domain: str
    text: str


def load_documents(domain: str, split: str) -> list[Document]:
    """One of DOMAINS in one of SPLITS, near-duplicates removed, in the order of the paths.

    Code takes some four seconds the first time in a process.

    Raises:
        ValueError: the domain or the split is unknown.
        FileNotFoundError: this Python keeps no readable standard library on disk.
    """
    _require_known("domain", domain, DOMAINS)
    _require_known("split", split, SPLITS)
    return list(_installed_splits(domain, sysconfig.get_path("stdlib"))[split])


def read_source_files(root: Path) -> list[Document]:
    """Every UTF-8 `.py` file below `root` that people wrote, as documents of the domain "code".

    Raises:
        FileNotFoundError: there is none.
    """
    documents = [
        Document(path, "code", text)
        for path in sorted(_source_paths(root))
        if (text := _read_utf8(root / path)) is not None
    ]
    if not documents:
        raise FileNotFoundError(
            f"No Python source files below {str(root)!r}; code needs a standard library kept as files"
        )
    return documents


def split_documents(
    documents: Iterable[Document], *, held_out_percent: int = 5, salt: str = ""
) -> dict[str, list[Document]]:
    """Deal documents into train, valid and test by a hash of their paths; no split nearly repeats another.

    A pure function: the same documents in any order give the same splits, in the order of their paths.
    `held_out_percent` of the hash range goes to valid and as much to test; another `salt` deals anew. Blank
    documents and near-duplicates by the two rules of this module are left out.

    Raises:
        ValueError: two documents have one path, or `held_out_percent` is not in 1…49.
    """
    if not 1 <= held_out_percent <= 49:
        raise ValueError(f"held_out_percent must be in 1…49, got {held_out_percent}")
    written = [document for document in documents if document.text.strip()]
    _require_unique_paths(written)
    ids, num_shingles = _shingle_ids(written)
    splits: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in _drop_near_duplicates(ids, num_shingles):
        splits[split_of(document.path, held_out_percent=held_out_percent, salt=salt)].append(document)
    seen = np.zeros(num_shingles, dtype=bool)
    for name, max_seen in (("train", 1.0), ("test", MAX_LEAKED), ("valid", MAX_LEAKED)):
        splits[name] = [document for document in splits[name] if seen[ids[document]].mean() <= max_seen]
        for document in splits[name]:
            seen[ids[document]] = True
    return splits


def split_of(path: str, *, held_out_percent: int = 5, salt: str = "") -> str:
    """The split that a path falls into, by a hash that is the same on every machine and in every process."""
    digest = hashlib.blake2b((salt + path).encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") % 100
    if position < held_out_percent:
        return "valid"
    return "test" if position < 2 * held_out_percent else "train"


def shingles(text: str) -> UInt64[np.ndarray, " shingles"]:
    """Distinct 64-bit hashes of every run of eight words, layout and punctuation ignored; at least one."""
    words = _WORD.findall(text)
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint64, count=len(words))
    runs = max(len(hashes) - SHINGLE_WORDS + 1, 1)
    rolled = np.zeros(runs, dtype=np.uint64)
    for offset in range(min(SHINGLE_WORDS, len(hashes))):
        # Odd multiplier of Knuth's 64-bit linear congruential generator; wrapping round is wanted.
        rolled = rolled * np.uint64(6364136223846793005) + hashes[offset : offset + runs] + np.uint64(1)
    return np.unique(rolled)


def xz_bits_per_byte(documents: Sequence[Document]) -> float:
    """Bits a byte that `xz -9e` needs for the documents as one stream: the baseline of a language model.

    Raises:
        ValueError: the documents hold no bytes.
    """
    import lzma  # a Python built without liblzma can do everything else

    joined = "".join(document.text for document in documents).encode()
    if not joined:
        raise ValueError(f"Nothing to compress: {len(documents)} documents with no bytes")
    return 8 * len(lzma.compress(joined, preset=9 | lzma.PRESET_EXTREME)) / len(joined)


@lru_cache(maxsize=len(DOMAINS))  # the installed files stay as they are while Python runs
def _installed_splits(domain: str, root: str) -> dict[str, list[Document]]:
    documents = _read_topics() if domain == "prose" else read_source_files(Path(root))
    return split_documents(documents, held_out_percent=_HELD_OUT_PERCENT[domain])


def _read_topics() -> list[Document]:
    from pydoc_data.topics import topics

    return [Document(name, "prose", text) for name, text in sorted(topics.items())]


def _source_paths(root: Path) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        # Pruned in place: site-packages may hold more files than the library itself.
        subfolders[:] = [name for name in subfolders if not _is_excluded(name)]
        for name in names:
            if name.endswith(".py") and not _is_excluded(name):
                yield Path(folder, name).relative_to(root).as_posix()


def _is_excluded(name: str) -> bool:
    return name in _EXCLUDED_NAMES or name.startswith(_EXCLUDED_PREFIXES)


def _read_utf8(path: Path) -> str | None:
    """The text with `\\n` line ends, or None for the few test files that are broken on purpose."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _shingle_ids(documents: Sequence[Document]) -> tuple[dict[Document, np.ndarray], int]:
    """Each document's shingles, numbered from 0 over all documents, and how many numbers there are."""
    hashes = [shingles(document.text) for document in documents]
    nothing = np.zeros(0, dtype=np.uint64)
    distinct, ids = np.unique(np.concatenate([nothing, *hashes]), return_inverse=True)
    ends = np.cumsum([len(own) for own in hashes], dtype=np.int64)
    # Behind the last end np.split returns one more, empty piece.
    return dict(zip(documents, np.split(ids, ends), strict=False)), len(distinct)


def _drop_near_duplicates(documents: dict[Document, np.ndarray], num_shingles: int) -> list[Document]:
    """The documents worth keeping, in the order of their paths.

    Larger documents come first, because a topic that quotes five others must not be lost to the five.
    """
    kept: list[Document] = []
    seen = np.zeros(num_shingles, dtype=bool)
    for document, own in sorted(documents.items(), key=lambda item: (-len(item[1]), item[0].path)):
        if seen[own].mean() <= MAX_REPEATED:
            kept.append(document)
            seen[own] = True
    return sorted(kept, key=lambda document: document.path)


def _require_known(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ValueError(f"Unknown {what} {given!r}; allowed: {', '.join(map(repr, allowed))}")


def _require_unique_paths(documents: Iterable[Document]) -> None:
    counts = Counter(document.path for document in documents)
    repeated = sorted(path for path, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(f"Every document needs its own path, repeated: {', '.join(repeated)}")
