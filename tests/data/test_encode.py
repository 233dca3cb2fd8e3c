from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dslearn.data import encode
from dslearn.data.encode import cache_folder, encode_documents
from dslearn.data.text import Document
from dslearn.data.tokenizer import ByteTokenizer, train_bpe

DOCUMENTS = [Document(f"{i}.py", "code", f"text {i} " * (i + 1)) for i in range(9)]
BYTES = ByteTokenizer()


class CountingTokenizer(ByteTokenizer):
    def __init__(self) -> None:
        self.calls = 0

    def encode(self, text: str) -> list[int]:
        self.calls += 1
        return super().encode(text)


def encoded(cache: Path, tokenizer: ByteTokenizer = BYTES, seed: int = 0) -> Tensor:
    return encode_documents(DOCUMENTS, tokenizer, shuffle_seed=seed, cache_dir=cache)


def texts(tokens: Tensor) -> list[str]:
    joined = "".join("\0" if t == BYTES.eod else chr(t) for t in tokens.tolist())
    assert joined.endswith("\0")
    return joined[:-1].split("\0")


def test_every_document_once_whole_and_ended(tmp_path) -> None:
    tokens = encoded(tmp_path)
    assert tokens.dtype == torch.int32
    assert sorted(texts(tokens)) == sorted(d.text for d in DOCUMENTS)


def test_the_seed_alone_decides_the_order(tmp_path) -> None:
    fresh = [encoded(tmp_path / str(i), seed=1) for i in range(2)]
    assert torch.equal(*fresh)
    assert texts(encoded(tmp_path, seed=1)) != texts(encoded(tmp_path, seed=2))
    assert texts(encoded(tmp_path, seed=1)) != [d.text for d in DOCUMENTS]


def test_the_second_time_comes_from_disk_under_any_seed(tmp_path) -> None:
    counting = CountingTokenizer()
    first = encoded(tmp_path, counting)
    assert counting.calls == len(DOCUMENTS)
    assert torch.equal(first, encoded(tmp_path, counting))
    assert sorted(texts(encoded(tmp_path, counting, seed=5))) == sorted(texts(first))
    assert counting.calls == len(DOCUMENTS)
    assert len(list(tmp_path.iterdir())) == 1


def test_other_texts_or_another_tokenizer_are_not_confused(tmp_path) -> None:
    bpe = train_bpe([d.text for d in DOCUMENTS], 270)
    encoded(tmp_path)
    by_bpe = encode_documents(DOCUMENTS, bpe, shuffle_seed=0, cache_dir=tmp_path)
    assert int(by_bpe.max()) == bpe.eod
    for changed in (DOCUMENTS[:-1], [*DOCUMENTS[:-1], Document("8.py", "code", "other")]):
        tokens = encode_documents(changed, BYTES, shuffle_seed=0, cache_dir=tmp_path)
        assert sorted(texts(tokens)) == sorted(d.text for d in changed)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign"])
def test_a_damaged_cache_file_is_rebuilt(tmp_path, damage: str) -> None:
    first = encoded(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes(
        {"flip": flipped, "truncate": whole[:middle], "empty": b"", "foreign": b"\x80\x04K\x01." * 99}[damage]
    )
    counting = CountingTokenizer()
    assert torch.equal(encoded(tmp_path, counting), first)
    assert counting.calls == len(DOCUMENTS)
    assert file.read_bytes() == whole


def test_an_unwritable_cache_costs_one_warning(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.warns(RuntimeWarning, match=r"could not be cached .*DSLEARN_CACHE") as caught:
        tokens = encoded(tmp_path / "file" / "folder")
    assert len(caught) == 1
    assert torch.equal(tokens, encoded(tmp_path))


def test_a_full_disk_costs_one_warning_and_leaves_no_rest(tmp_path, monkeypatch) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(encode.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device") as caught:
        tokens = encoded(tmp_path)
    assert len(caught) == 1
    assert list(tmp_path.iterdir()) == []
    assert len(texts(tokens)) == len(DOCUMENTS)


def test_an_interrupted_write_leaves_no_rest(tmp_path, monkeypatch) -> None:
    def interrupted(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encode.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_home_folder_costs_one_warning(monkeypatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(encode, "cache_folder", homeless)
    with pytest.warns(RuntimeWarning, match="home directory") as caught:
        encode_documents(DOCUMENTS, BYTES, shuffle_seed=0)
    assert len(caught) == 1


def test_the_folder_follows_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DSLEARN_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_documents(DOCUMENTS, BYTES, shuffle_seed=0)
    assert len(list((tmp_path / "chosen").iterdir())) == 1
    monkeypatch.delenv("DSLEARN_CACHE")
    monkeypatch.setattr(encode.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dslearn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "dslearn"
    monkeypatch.setattr(encode.sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "dslearn"
    monkeypatch.setattr(encode.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "dslearn" / "Cache"


def test_no_documents_and_bad_seeds_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="at least one document, got none"):
        encode_documents([], BYTES, shuffle_seed=0, cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"seed must be in .*, got -1"):
        encoded(tmp_path, seed=-1)
