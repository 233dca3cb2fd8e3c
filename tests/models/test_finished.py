"""The models that the package ships."""

from __future__ import annotations

from pathlib import Path

import pytest

import dslearn.models
from dslearn.data import load_bpe, load_documents, xz_bits_per_byte
from dslearn.models import evaluate_bits_per_byte, load_card, load_model, model_names

FINISHED = Path(dslearn.models.__file__).parent / "finished"


def test_the_language_model_is_among_them() -> None:
    assert "language" in model_names()


@pytest.mark.parametrize("name", model_names())
def test_each_has_a_card_and_fits_its_place(name: str) -> None:
    card = load_card(name)
    assert {"data", "recipe", "parameters", "training_seconds", "date", "metrics", "sha256"} <= card.keys()
    assert load_model(name).config.num_parameters == card["parameters"]
    assert sum(path.stat().st_size for path in (FINISHED / name).iterdir()) <= 8_000_000


def test_the_language_model_beats_xz_on_its_card() -> None:
    metrics = load_card("language")["metrics"]
    assert metrics["bits_per_byte"] < metrics["xz_bits_per_byte"]
    assert metrics["context"] >= 2048


def test_the_language_model_beats_xz_on_held_out_files() -> None:
    """A few files, so that it is quick; xz finds less to repeat in them than in the whole split."""
    documents = [d for d in load_documents("code", "test") if 2_000 < len(d.text) < 4_000][:4]
    bits = evaluate_bits_per_byte(load_model("language"), documents, load_bpe(), context=1024)
    assert bits < xz_bits_per_byte(documents)
