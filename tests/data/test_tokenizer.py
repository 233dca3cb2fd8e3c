from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslearn.data.text import load_documents
from dslearn.data.tokenizer import BPETokenizer, ByteTokenizer, load_bpe, train_bpe

BPE = load_bpe()
TOKENIZERS = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
SENTENCES = ["the cat sat on the mat, the rat sat on the cat\n"] * 20


@TOKENIZERS
@given(text=st.text())
def test_round_trip_of_any_text(tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.eod for i in ids)


@TOKENIZERS
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\r\n\t\x00",
        "  def f():\n        return  1\n\n\n",
        "e\u0301 é ﬁ",
        "🐍👩‍💻",
        "<|endoftext|><eod>",
    ],
)
def test_round_trip_of_hard_cases(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@TOKENIZERS
def test_round_trip_of_held_out_files(tokenizer) -> None:
    for document in load_documents("prose", "test"):
        assert tokenizer.decode(tokenizer.encode(document.text)) == document.text


@TOKENIZERS
def test_eod_is_the_last_id_and_decodes_to_nothing(tokenizer) -> None:
    assert tokenizer.eod == tokenizer.vocab_size - 1
    assert tokenizer.decode([tokenizer.eod, *tokenizer.encode("a b"), tokenizer.eod]) == "a b"


@TOKENIZERS
@pytest.mark.parametrize("wrong", [-1, 100_000])
def test_unknown_ids_are_named(tokenizer, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"Token id {wrong} is outside the vocabulary 0…{tokenizer.vocab_size - 1}"):
        tokenizer.decode([1, wrong])


@TOKENIZERS
def test_broken_utf8_from_a_model_becomes_replacement_characters(tokenizer) -> None:
    half = tokenizer.encode("🦔")[:1] if tokenizer.vocab_size == 257 else BPE.encode("\U000f1234")[:1]
    assert tokenizer.decode(half) == "\ufffd"


@TOKENIZERS
def test_lone_surrogates_are_refused(tokenizer) -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        tokenizer.encode("a\ud800")


def test_byte_ids_are_the_bytes() -> None:
    assert ByteTokenizer().encode("aé") == [97, 0xC3, 0xA9]


def test_shipped_bpe_has_4096_ids_and_compresses_held_out_text() -> None:
    assert BPE.vocab_size == 4096
    for domain in ("prose", "code"):
        text = "".join(d.text for d in load_documents(domain, "valid"))[:200_000]
        assert len(text.encode()) / len(BPE.encode(text)) > 3


def test_training_is_deterministic_and_learns_the_words() -> None:
    first, second = train_bpe(SENTENCES, 300), train_bpe(iter(SENTENCES), 300)
    assert first.fingerprint() == second.fingerprint()
    assert len(first.encode(" the cat")) < len(ByteTokenizer().encode(" the cat")) / 2
    assert first.decode(first.encode("ωmega")) == "ωmega"  # bytes never seen in training


def test_vocabulary_is_never_larger_than_asked() -> None:
    assert train_bpe(SENTENCES, 257).vocab_size == 257
    assert train_bpe(SENTENCES, 265).vocab_size == 265
    assert 257 < train_bpe(SENTENCES, 10_000).vocab_size < 10_000


def test_saved_tokenizer_loads_equal_and_is_plain_json(tmp_path) -> None:
    made = train_bpe(SENTENCES, 300)
    made.save(tmp_path / "bpe.json")
    json.loads((tmp_path / "bpe.json").read_text(encoding="utf-8"))
    loaded = BPETokenizer.load(tmp_path / "bpe.json")
    assert (loaded.vocab_size, loaded.eod) == (made.vocab_size, made.eod)
    assert loaded.encode(SENTENCES[0]) == made.encode(SENTENCES[0])


def test_bad_files_and_sizes_are_named(tmp_path) -> None:
    (tmp_path / "bad.json").write_text('{"model": 3', encoding="utf-8")
    with pytest.raises(ValueError, match=r"Cannot load a tokenizer from .*bad\.json"):
        BPETokenizer.load(tmp_path / "bad.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"Cannot load a tokenizer from .*binary\.json"):
        BPETokenizer.load(tmp_path / "binary.json")
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        BPETokenizer.load(tmp_path / "missing.json")
    with pytest.raises(ValueError, match=r"vocab_size must be at least 257 .*, got 256"):
        train_bpe(SENTENCES, 256)
    with pytest.raises(ValueError, match="no text"):
        train_bpe(["", ""])


def test_missing_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # import then behaves as if it were not installed
    for use in (load_bpe, lambda: train_bpe(SENTENCES)):
        with pytest.raises(ImportError, match=r"extra 'data': pip install \"dslearn\[data\]\""):
            use()
