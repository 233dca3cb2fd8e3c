"""English prose and Python source that every installation already has: the standard library's own.

Nothing is downloaded. *Prose* is Python's language reference as `pydoc_data.topics` carries it, one document
a topic; *code* is the standard library's own `.py` files. The text varies a little between Python versions,
so results on it are compared within one run, never with a number from elsewhere.

Files repeat one another (vendored copies, topics that quote topics), and a held-out file that nearly repeats
a training file measures memory rather than language. Hence two rules, both over hashed runs of lines
("shingles", Broder 1997): a document most of whose shingles stand in larger documents is dropped from the
domain, and after the split a held-out document goes too if more than a small share of its shingles stand in
another split.
"""

from __future__ import annotations

import hashlib
import lzma
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

Domain = Literal["prose", "code"]
Split = Literal["train", "valid", "test"]

SHINGLE_LINES = 4
MAX_REPEATED = 0.5  # share of a document that may stand in larger documents of its domain
MAX_LEAKED = 0.1  # share of a held-out document that may stand in another split

# Tables printed by a program rather than written by people, third-party code, and the prose domain itself.
_EXCLUDED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib-dynload"}
)
_EXCLUDED_PREFIXES = ("_sysconfigdata", "config-")
# Held-out shares in percent of the hash range. Prose has only some fifty documents, so it gives a larger
# share.
_HELD_OUT_PERCENT: dict[str, int] = {"prose": 10, "code": 5}


@dataclass(frozen=True)
class Document:
    """One file or topic: its path within the domain (with `/`), its domain and its whole text."""

    path: str
    domain: str
    text: str


def load_documents(domain: Domain, split: Split) -> list[Document]:
    """The documents of one domain and split, near-duplicates removed, in the order of their paths.

    Raises:
        ValueError: the domain or the split is unknown.
        FileNotFoundError: this Python keeps no readable standard library on disk.
    """
    _require_known("domain", domain, get_args(Domain))
    _require_known("split", split, get_args(Split))
    documents = _read_topics() if domain == "prose" else read_source_files(Path(sysconfig.get_path("stdlib")))
    return split_documents(documents, held_out_percent=_HELD_OUT_PERCENT[domain])[split]


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
            f"No Python source files below {str(root)!r}: the domain 'code' needs a standard library kept as files"
        )
    return documents


def split_documents(
    documents: Iterable[Document], *, held_out_percent: int = 5, salt: str = ""
) -> dict[str, list[Document]]:
    """Deal documents into train, valid and test by a hash of their paths, so that no split nearly repeats another.

    A pure function: the same documents in any order give the same splits. `held_out_percent` of the hash
    range goes to valid and as much to test; another `salt` deals anew.

    Raises:
        ValueError: two documents have one path, or `held_out_percent` is not in 1…49.
    """
    if not 1 <= held_out_percent <= 49:
        raise ValueError(f"held_out_percent must be in 1…49, got {held_out_percent}")
    kept = drop_near_duplicates(documents)
    splits: dict[str, list[Document]] = {name: [] for name in get_args(Split)}
    for document in kept:
        splits[split_of(document.path, held_out_percent=held_out_percent, salt=salt)].append(document)
    seen = _shingle_union(splits["train"])
    for name in ("test", "valid"):
        splits[name] = [d for d in splits[name] if _share_seen(shingles(d.text), seen) <= MAX_LEAKED]
        seen |= _shingle_union(splits[name])
    return splits


def split_of(path: str, *, held_out_percent: int = 5, salt: str = "") -> str:
    """The split that a path falls into, by a hash that is the same on every machine and in every process."""
    digest = hashlib.blake2b((salt + path).encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") % 100
    if position < held_out_percent:
        return "valid"
    return "test" if position < 2 * held_out_percent else "train"


def drop_near_duplicates(documents: Iterable[Document], max_repeated: float = MAX_REPEATED) -> list[Document]:
    """Keep a document only if at most `max_repeated` of its shingles stand in the larger documents already kept.

    Larger documents come first, because a topic that quotes five others must not be lost to the five. Blank
    documents go too. Returns the kept documents in the order of their paths.

    Raises:
        ValueError: two documents have one path.
    """
    pairs = [(document, shingles(document.text)) for document in documents if document.text.strip()]
    _require_unique_paths([document for document, _ in pairs])
    kept: list[Document] = []
    seen: set[int] = set()
    for document, own in sorted(pairs, key=lambda pair: (-len(pair[1]), pair[0].path)):
        if _share_seen(own, seen) <= max_repeated:
            kept.append(document)
            seen |= own
    return sorted(kept, key=lambda document: document.path)


def shingles(text: str, lines: int = SHINGLE_LINES) -> frozenset[int]:
    """64-bit hashes of every run of `lines` non-blank lines, indentation ignored; shorter texts have one shingle."""
    stripped = [line.strip() for line in text.splitlines()]
    hashes = np.array([zlib.crc32(line.encode()) for line in stripped if line], dtype=np.uint64)
    runs = max(len(hashes) - lines + 1, 1)
    rolled = np.zeros(runs, dtype=np.uint64)
    for offset in range(min(lines, len(hashes))):
        # Odd multiplier of Knuth's 64-bit linear congruential generator; wrapping round is wanted.
        rolled = rolled * np.uint64(6364136223846793005) + hashes[offset : offset + runs] + np.uint64(1)
    return frozenset(rolled.tolist())


def xz_bits_per_byte(documents: Sequence[Document]) -> float:
    """Bits a byte that `xz -9e` needs for the documents as one stream: the baseline of a language model.

    Raises:
        ValueError: the documents hold no bytes.
    """
    joined = "".join(document.text for document in documents).encode()
    if not joined:
        raise ValueError(f"Nothing to compress: {len(documents)} documents with no bytes")
    return 8 * len(lzma.compress(joined, preset=9 | lzma.PRESET_EXTREME)) / len(joined)


def _read_topics() -> list[Document]:
    from pydoc_data.topics import topics

    return [Document(name, "prose", text) for name, text in sorted(topics.items())]


def _source_paths(root: Path) -> Iterator[str]:
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        excluded = _EXCLUDED_FOLDERS.intersection(parts) or any(
            p.startswith(_EXCLUDED_PREFIXES) for p in parts
        )
        if not excluded and path.is_file():
            yield "/".join(parts)


def _read_utf8(path: Path) -> str | None:
    """The text with `\\n` line ends, or None for the few test files that are broken on purpose."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _share_seen(own: frozenset[int], seen: set[int]) -> float:
    return len(own & seen) / len(own)


def _shingle_union(documents: Iterable[Document]) -> set[int]:
    return set().union(*(shingles(document.text) for document in documents))


def _require_known(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ValueError(f"Unknown {what} {given!r}; allowed: {', '.join(map(repr, allowed))}")


def _require_unique_paths(documents: Sequence[Document]) -> None:
    paths = [document.path for document in documents]
    repeated = (
        sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    )
    if repeated:
        raise ValueError(f"Every document needs its own path, repeated: {', '.join(repeated)}")
