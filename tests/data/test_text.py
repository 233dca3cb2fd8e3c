from __future__ import annotations

import random
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslearn.data import text
from dslearn.data.text import (
    DOMAINS,
    MAX_LEAKED,
    SPLITS,
    Document,
    load_documents,
    read_source_files,
    shingles,
    split_documents,
    split_of,
    xz_bits_per_byte,
)


def lines(name: str, count: int) -> list[str]:
    return [f"{name} says line {number} of its own" for number in range(count)]


def document(path: str, rows: list[str]) -> Document:
    return Document(path, "code", "\n".join(rows) + "\n")


def word_runs(text: str, length: int = 8) -> set[int]:
    """The same rule written plainly, with Python's own hash."""
    words = re.findall(r"\w+", text)
    return {hash(tuple(words[i : i + length])) for i in range(max(len(words) - length + 1, 1))}


def path_in(split: str, salt: str = "", prefix: str = "file") -> str:
    """A path that the hash deals into `split`."""
    return next(name for i in range(10_000) if split_of(name := f"{prefix}{i}.py", salt=salt) == split)


def share(of: Document, within: list[Document]) -> float:
    others = np.concatenate([shingles(other.text) for other in within])
    return np.isin(shingles(of.text), others).mean()


@pytest.fixture(scope="module")
def corpus() -> dict[str, dict[str, list[Document]]]:
    return {domain: {split: load_documents(domain, split) for split in SPLITS} for domain in DOMAINS}


@pytest.mark.parametrize("domain", DOMAINS)
def test_installed_corpus_has_three_disjoint_splits(corpus, domain) -> None:
    paths = {split: {d.path for d in corpus[domain][split]} for split in SPLITS}
    assert all(len(found) >= 2 for found in paths.values())
    assert len(set.union(*paths.values())) == sum(map(len, paths.values()))
    assert len(paths["train"]) > 3 * (len(paths["valid"]) + len(paths["test"])) / 2
    assert all(d.domain == domain and d.text.strip() for split in SPLITS for d in corpus[domain][split])


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_held_out_document_of_the_corpus_nearly_repeats_training(corpus, domain) -> None:
    seen = {run for found in corpus.values() for d in found["train"] for run in word_runs(d.text)}
    for held_out in corpus[domain]["valid"] + corpus[domain]["test"]:
        own = word_runs(held_out.text)
        assert len(own & seen) <= MAX_LEAKED * len(own), held_out.path


def test_code_leaves_out_foreign_generated_and_prose_files(corpus) -> None:
    paths = [d.path for split in SPLITS for d in corpus["code"][split]]
    assert not [p for p in paths if p.startswith(("site-packages/", "encodings/", "pydoc_data/", "_sysconfigdata"))]
    assert {"json/decoder.py", "argparse.py"} <= set(paths)


def test_loading_again_gives_the_same_in_the_order_of_the_paths() -> None:
    first = load_documents("prose", "train")
    assert [d.path for d in first] == sorted(d.path for d in first)
    load_documents("prose", "train").clear()  # the caller's own list
    assert load_documents("prose", "train") == first
    text._installed_splits.cache_clear()
    assert load_documents("prose", "train") == first


def test_a_near_copy_never_stands_on_both_sides() -> None:
    original = lines("origin", 100)
    near_copy = [*original[:50], "one changed line", *original[51:]]
    for held_out in ("valid", "test"):
        documents = [document(path_in("train"), original), document(path_in(held_out), near_copy)]
        documents += [document(path_in(split, prefix=split), lines(split, 30)) for split in SPLITS]
        splits = split_documents(documents)
        kept = {d.path for found in splits.values() for d in found}
        assert len(kept & {documents[0].path, documents[1].path}) == 1
        assert {d.path for d in documents[2:]} <= kept


def test_near_copies_inside_one_split_are_dropped_and_the_larger_stays() -> None:
    small, large = lines("same", 40), lines("same", 60)
    first, second = path_in("train", prefix="a"), path_in("train", prefix="b")
    splits = split_documents([document(first, small), document(second, large)])
    assert [d.path for d in splits["train"]] == [second]


def test_a_held_out_document_pieced_together_from_several_training_files_goes() -> None:
    pieces = [lines(f"part{i}", 12) for i in range(3)]
    quoting = [row for piece in pieces for row in piece[:6]] + lines("own", 60)
    train = [
        document(path_in("train", prefix=f"p{i}"), piece + lines(f"rest{i}", 40)) for i, piece in enumerate(pieces)
    ]
    held_out = document(path_in("test"), quoting)
    assert share(held_out, train) > MAX_LEAKED
    assert split_documents([*train, held_out])["test"] == []
    mostly_own = document(held_out.path, quoting[:6] + lines("own", 60))
    assert split_documents([*train, mostly_own])["test"] == [mostly_own]


def test_shared_short_runs_do_not_make_duplicates() -> None:
    header = lines("licence", 2)
    documents = [document(f"{name}.py", header + lines(name, 30)) for name in "abcdefgh"]
    assert sum(map(len, split_documents(documents).values())) == 8


@given(st.permutations(range(12)), st.sampled_from(["", "again", "1"]))
def test_splits_depend_on_neither_order_nor_process(order: list[int], salt: str) -> None:
    documents = [document(f"f{i}.py", lines(f"word{i % 9}", 10 + i)) for i in range(12)]
    shuffled = split_documents([documents[i] for i in order], held_out_percent=20, salt=salt)
    assert shuffled == split_documents(documents, held_out_percent=20, salt=salt)
    for split, found in shuffled.items():
        others = [d for name in SPLITS if name != split for d in shuffled[name]]
        assert all(split_of(d.path, held_out_percent=20, salt=salt) == split for d in found)
        assert others == [] or all(share(d, others) <= MAX_LEAKED for d in found if split != "train")


def test_the_hash_is_stable_and_deals_the_asked_shares() -> None:
    assert [split_of(p) for p in ("abc.py", "json/decoder.py", "os.py")] == ["train", "train", "train"]
    dealt = [split_of(f"{i}.py", held_out_percent=10) for i in range(5000)]
    assert dealt.count("valid") / 5000 == pytest.approx(0.1, abs=0.02)
    assert dealt.count("test") / 5000 == pytest.approx(0.1, abs=0.02)
    assert dealt != [split_of(f"{i}.py", held_out_percent=10, salt="other") for i in range(5000)]


def test_shingles_ignore_layout_and_punctuation_but_not_order() -> None:
    assert np.array_equal(shingles("if a:\n    b(c, d)\n\ne f g h i"), shingles("if a b, c d; e\tf g h i!"))
    assert len(shingles("a b c d e f g h i")) == 2
    assert len(shingles("a b c d e f g h " * 9)) == 8
    assert len(np.intersect1d(shingles("a b c d e f g h"), shingles("b a c d e f g h"))) == 0
    assert len(shingles("short")) == len(shingles("***")) == len(shingles("")) == 1


def test_a_copy_with_other_names_on_every_fourth_line_is_still_a_copy() -> None:
    original = lines("origin", 200)
    renamed = [row.replace("origin", "other") if i % 4 == 0 else row for i, row in enumerate(original)]
    documents = [document(path_in("train"), original), document(path_in("test"), renamed)]
    assert sum(map(len, split_documents(documents).values())) == 1


def test_a_standard_library_without_its_tests_works(tmp_path, monkeypatch) -> None:
    (tmp_path / "json").mkdir()
    for i in range(60):
        (tmp_path / "json" / f"module{i}.py").write_text("\n".join(lines(f"m{i}", 20)), encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert sum(len(load_documents("code", split)) for split in SPLITS) == 60


def test_removing_the_test_package_moves_no_other_file_to_another_split(corpus) -> None:
    before = {d.path: split for split in SPLITS for d in corpus["code"][split]}
    installed = read_source_files(Path(sysconfig.get_path("stdlib")))
    for split, found in split_documents(d for d in installed if not d.path.startswith("test/")).items():
        assert len(found) >= 5
        assert all(before.get(d.path, split) == split for d in found)


def test_unreadable_blank_and_foreign_files_are_left_out(tmp_path) -> None:
    (tmp_path / "good.py").write_bytes("x = 'é'\r\ny = 1\r\n".encode())
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    for folder in ("site-packages", "__pycache__", "encodings"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "thing.py").write_text("z = 1\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no code", encoding="utf-8")
    assert read_source_files(tmp_path) == [Document("good.py", "code", "x = 'é'\ny = 1\n")]


def test_errors_say_what_was_given_and_what_is_allowed(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"Unknown domain 'poems'; allowed: 'prose', 'code'"):
        load_documents("poems", "train")
    with pytest.raises(ValueError, match=r"Unknown split 'dev'; allowed: 'train', 'valid', 'test'"):
        load_documents("prose", "dev")
    with pytest.raises(FileNotFoundError, match=r"No Python source files below .*nowhere"):
        read_source_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"own path, repeated: a\.py"):
        split_documents([document("a.py", ["one"]), document("a.py", ["two"])])
    with pytest.raises(ValueError, match=r"held_out_percent must be in 1…49, got 50"):
        split_documents([], held_out_percent=50)
    with pytest.raises(ValueError, match=r"Nothing to compress: 0 documents"):
        xz_bits_per_byte([])


def test_xz_counts_bits_of_utf8_bytes_over_one_stream() -> None:
    letters = random.Random(0).choices("abcdefghijklmnop", k=20_000)  # 4 bits each, and nothing else to find
    once = [Document("a", "prose", "".join(letters))]
    assert xz_bits_per_byte(once) == pytest.approx(4, rel=0.1)
    assert xz_bits_per_byte(once * 2) == pytest.approx(xz_bits_per_byte(once) / 2, rel=0.02)
    two_bytes_each = "".join(letters).translate({code: code + 0x100 for code in range(97, 113)})
    assert xz_bits_per_byte([Document("b", "prose", two_bytes_each)]) < 3
