"""The language recipe from the first step to the card, on a small text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dslearn.data import Document
from dslearn.models import load_card, load_model
from dslearn.training import LanguageRecipe, OptimizerConfig, Phase, train_language
from dslearn.training import phases as phases_module
from dslearn.training import recipes as recipes_module


def phase(name: str, stage: str, steps: int = 3, seq_len: int = 24) -> Phase:
    return Phase(name=name, stage=stage, steps=steps, batch_size=2, seq_len=seq_len, optimizer=OptimizerConfig())


TINY = LanguageRecipe(
    dim=16,
    num_layers=1,
    num_heads=2,
    hidden_dim=24,
    block_size=8,
    top_k=2,
    precision="32-true",
    phases=(
        phase("short", "dense"),
        phase("long", "dense", seq_len=48),
        phase("selectors", "warmup", seq_len=48),
        phase("sparse", "sparse", seq_len=48),
    ),
)


@pytest.fixture(autouse=True)
def small_text(monkeypatch, tmp_path_factory) -> None:
    def documents(domain: str, split: str) -> list[Document]:
        return [Document(f"{split}{i}", domain, f"{domain} {split} {i} says: return self.{i}\n" * 8) for i in range(3)]

    monkeypatch.setattr(phases_module, "load_documents", documents)
    monkeypatch.setattr(recipes_module, "load_documents", documents)
    monkeypatch.setattr(phases_module, "VALID_TOKENS", 100)
    monkeypatch.setenv("DSLEARN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def told() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def test_phases_follow_one_another_to_a_finished_model(tmp_path: Path, told) -> None:
    lines, tell = told
    model = train_language(tmp_path, TINY, tell=tell)
    assert [line.split(":")[0] for line in lines] == [
        "short",
        "long",
        "selectors",
        "sparse",
        "measuring on held-out text",
    ]
    assert model.config.attention == "sparse"
    assert load_model(tmp_path / "long" / "model").config.attention == "dense"

    card = load_card(tmp_path / "model")
    assert card["parameters"] == model.config.num_parameters
    assert card["training_tokens"] == 3 * 2 * (24 + 48 + 48 + 48)
    assert card["recipe"]["phases"][3]["stage"] == "sparse"
    assert card["metrics"].keys() >= {"bits_per_byte", "dense_bits_per_byte", "xz_bits_per_byte", "test_bytes"}
    assert load_card(tmp_path / "short" / "model")["seconds"] < card["training_seconds"]
    finished = load_model(tmp_path / "model")
    weights = load_model(tmp_path / "sparse" / "model").to(torch.bfloat16).float().state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in finished.state_dict().items())


def test_warmup_keeps_the_dense_model(tmp_path: Path) -> None:
    train_language(tmp_path, TINY, until="selectors")
    dense = load_model(tmp_path / "long" / "model").state_dict()
    warm = load_model(tmp_path / "selectors" / "model").state_dict()
    assert all(torch.equal(warm[name], value) for name, value in dense.items())
    assert all("index_" in name for name in warm.keys() - dense.keys())
    assert not (tmp_path / "model").exists()


def test_a_finished_phase_is_kept_and_the_next_starts_from_it(tmp_path: Path, told) -> None:
    lines, tell = told
    train_language(tmp_path, TINY, until="short", tell=tell)
    first = (tmp_path / "short" / "model" / "model.safetensors").read_bytes()
    train_language(tmp_path, TINY, until="long", tell=tell)
    assert [line.split(":")[0] for line in lines] == ["short", "long"]
    assert (tmp_path / "short" / "model" / "model.safetensors").read_bytes() == first

    whole = tmp_path / "whole"
    train_language(whole, TINY, until="long", tell=tell)
    name = Path("long", "model", "model.safetensors")
    assert (whole / name).read_bytes() == (tmp_path / name).read_bytes()


def test_other_text_or_another_seed_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    train_language(tmp_path, TINY, until="short")
    (tmp_path / "short" / "model").rename(tmp_path / "aside")
    with pytest.raises(ValueError, match="made with other settings: seed was 0, now 1"):
        train_language(tmp_path, replace(TINY, seed=1), until="short")


def test_unknown_phases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="until must name a phase: short, long, selectors, sparse; got 'middle'"):
        train_language(tmp_path, TINY, until="middle")
    with pytest.raises(ValueError, match="steps of phase 'short' must be at least 1, got 0"):
        phase("short", "dense", steps=0)


def test_the_finished_model_fits_its_place() -> None:
    recipe = LanguageRecipe()
    model = recipe.ready_for(recipe.phases[-1], recipe.new_model(4096))
    assert 2 * model.config.num_parameters <= 7_950_000  # bytes in bfloat16, leaving room for names and shapes
    assert recipe.phases[-1].seq_len >= 2048
