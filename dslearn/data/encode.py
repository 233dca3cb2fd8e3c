"""Documents as one long row of token ids, kept on disk: encoding tens of megabytes takes seconds."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dslearn.data.batches import step_generator
from dslearn.data.text import Document
from dslearn.data.tokenizer import Tokenizer

_DIGEST_BYTES = 32


def encode_documents(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    shuffle_seed: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Int[Tensor, " tokens"]:
    """All documents in an order shuffled by `shuffle_seed`, each followed by `tokenizer.eod`, as int32.

    The ids are kept in `cache_dir` (None: `cache_folder()`) under a hash of the texts and the tokenizer,
    whatever the seed. A damaged file is rebuilt; a folder that cannot be written costs one warning and
    nothing else.

    Raises:
        ValueError: there are no documents, or the seed is negative.
    """
    if not documents:
        raise ValueError("encode_documents needs at least one document, got none")
    order = step_generator(shuffle_seed, 0).permutation(len(documents))
    ids = _cached_ids(documents, tokenizer, cache_dir)
    pieces = np.split(ids, np.flatnonzero(ids == tokenizer.eod)[:-1] + 1)
    return torch.from_numpy(np.concatenate([pieces[i] for i in order]).astype(np.int32))


def cache_folder() -> Path:
    """Where dslearn keeps what can be rebuilt: `DSLEARN_CACHE`, or else the platform's folder for caches."""
    if chosen := os.environ.get("DSLEARN_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "dslearn" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dslearn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dslearn"


def _cached_ids(
    documents: Sequence[Document], tokenizer: Tokenizer, cache_dir: str | os.PathLike[str] | None
) -> np.ndarray:
    try:
        folder = cache_folder() if cache_dir is None else Path(cache_dir)
        file = folder / f"tokens-{_key(documents, tokenizer)}.npy"
        cached = _read(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(error)
        return _encode(documents, tokenizer)
    if cached is not None:
        return cached
    ids = _encode(documents, tokenizer)
    try:
        _write(file, ids)
    except OSError as error:
        _warn(error)
    return ids


def _encode(documents: Sequence[Document], tokenizer: Tokenizer) -> np.ndarray:
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32
    rows = [np.array([*tokenizer.encode(document.text), tokenizer.eod], dtype=dtype) for document in documents]
    return np.concatenate(rows)


def _key(documents: Sequence[Document], tokenizer: Tokenizer) -> str:
    key = hashlib.blake2b(tokenizer.fingerprint().encode(), digest_size=16)
    for document in documents:
        # Digests of one length, so that no two lists of texts run together into the same bytes.
        key.update(hashlib.blake2b(document.text.encode(), digest_size=16).digest())
    return key.hexdigest()


def _read(file: Path) -> np.ndarray | None:
    """The stored ids, or None if there are none or the digest behind them shows damage."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        return None
    return np.load(io.BytesIO(body), allow_pickle=False)


def _write(file: Path, ids: np.ndarray) -> None:
    """Store the ids with their digest; readers see the whole file or none."""
    buffer = io.BytesIO()
    np.save(buffer, ids, allow_pickle=False)
    body = buffer.getvalue()
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            stream.write(hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest())
        os.replace(temporary, file)
    except BaseException:  # Ctrl-C too must leave no half-written file behind
        Path(temporary).unlink(missing_ok=True)
        raise


def _warn(error: Exception) -> None:
    warnings.warn(
        f"Encoded text could not be cached ({error}); everything works, but encoding is repeated every time. "
        "Set DSLEARN_CACHE to a writable folder.",
        RuntimeWarning,
        stacklevel=4,
    )
