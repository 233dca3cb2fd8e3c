"""Text as integers: plain bytes, or a small byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2).

Both are lossless for every text that UTF-8 can hold, and both have one id more than their text needs: `eod`,
the end of a document, always the last id. No text encodes to it and it decodes to nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dslearn._extras import require


@runtime_checkable
class Tokenizer(Protocol):
    """What a tokenizer must offer; `eod` is its last id, so `vocab_size == eod + 1`."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eod(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def fingerprint(self) -> str: ...


class ByteTokenizer:
    """UTF-8 bytes as ids 0…255, and 256 for the end of a document."""

    vocab_size = 257
    eod = 256

    def encode(self, text: str) -> list[int]:
        """The bytes of `text`. Raises UnicodeEncodeError for lone surrogates, which UTF-8 cannot hold."""
        return list(text.encode("utf-8"))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; `eod` is left out, and bytes that are no UTF-8 (a model may write any) become U+FFFD.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        _require_known_ids(tokens, self.vocab_size)
        return bytes(token for token in tokens if token != self.eod).decode("utf-8", errors="replace")

    def fingerprint(self) -> str:
        """What tells this tokenizer's ids from another's in a cache key."""
        return "bytes"


class BPETokenizer:
    """Byte-level BPE of the `tokenizers` package, with the end of a document as one id more.

    Made by `train_bpe`, `BPETokenizer.load` or `load_bpe`. The file is the package's own `tokenizer.json`,
    readable by every tool that knows it; `eod` is not part of it, so text that happens to spell a special
    token stays text.

    Raises:
        ImportError: the extra "data" is missing.
        ValueError: `serialized` is no tokenizer in JSON.
    """

    def __init__(self, serialized: str) -> None:
        tokenizers = require("tokenizers", extra="data")
        try:
            self._bpe: Any = tokenizers.Tokenizer.from_str(serialized)
        except Exception as error:  # the package raises bare Exception
            raise ValueError(f"Not a tokenizer in the JSON format of the tokenizers package: {error}") from error

    @property
    def vocab_size(self) -> int:
        """Number of ids, `eod` included."""
        return self._bpe.get_vocab_size() + 1

    @property
    def eod(self) -> int:
        """The id that ends a document: the last one."""
        return self._bpe.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of `text`. Raises UnicodeEncodeError for lone surrogates, which UTF-8 cannot hold."""
        text.encode("utf-8")  # the package's own message would name neither the character nor its place
        return self._bpe.encode(text).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; `eod` is left out, and bytes that are no UTF-8 (a model may write any) become U+FFFD.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        _require_known_ids(tokens, self.vocab_size)
        return self._bpe.decode([int(token) for token in tokens if token != self.eod])

    def fingerprint(self) -> str:
        """What tells this tokenizer's ids from another's in a cache key."""
        return self._bpe.to_str()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as compact JSON."""
        compact = json.dumps(json.loads(self._bpe.to_str()), ensure_ascii=False, separators=(",", ":"))
        Path(path).write_text(compact + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BPETokenizer:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no tokenizer.
        """
        try:
            return cls(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"Cannot load a tokenizer from {str(path)!r}: {error}") from error


def load_bpe() -> BPETokenizer:
    """The BPE of 4,096 ids that the package ships, trained once on the training split of prose and code."""
    return BPETokenizer(files("dslearn.data").joinpath("bpe4096.json").read_text(encoding="utf-8"))


def train_bpe(texts: Iterable[str], vocab_size: int = 4096) -> BPETokenizer:
    """Learn merges from `texts` until the vocabulary holds `vocab_size` ids: 256 bytes, merges and `eod`.

    It stays smaller if the texts run out of pairs that occur twice. The same texts give the same merges.

    Raises:
        ImportError: the extra "data" is missing.
        ValueError: `vocab_size` has no room for the bytes and `eod`, or `texts` holds no text.
    """
    if vocab_size < ByteTokenizer.vocab_size:
        raise ValueError(f"vocab_size must be at least {ByteTokenizer.vocab_size} (bytes and eod), got {vocab_size}")
    nonempty = [text for text in texts if text]
    if not nonempty:
        raise ValueError("Cannot train a BPE on no text")
    tokenizers = require("tokenizers", extra="data")
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = byte_level(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=byte_level.alphabet(),
    )
    bpe.train_from_iterator(nonempty, trainer)
    return BPETokenizer(bpe.to_str())


def _require_known_ids(tokens: Sequence[int], vocab_size: int) -> None:
    unknown = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if unknown is not None:
        raise ValueError(f"Token id {unknown} is outside the vocabulary 0…{vocab_size - 1}")
