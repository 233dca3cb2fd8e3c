from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dslearn.models import LanguageModel, ModelConfig, load_card, load_model, model_names, save_model


def equal(one: LanguageModel, other: LanguageModel) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_round_trip(small_model, tmp_path: Path, attention: str) -> None:
    model = small_model(attention)
    folder = save_model(model, tmp_path / "deep" / "model", {"seed": 3})
    loaded = load_model(folder)
    assert loaded.config == model.config
    assert equal(loaded, model)
    assert not loaded.training
    assert load_card(folder)["seed"] == 3
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]


def test_half_precision_on_disk_single_in_memory(small_model, tmp_path: Path) -> None:
    model = small_model()
    folder = save_model(model, tmp_path / "model", dtype=torch.bfloat16)
    loaded = load_model(folder)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert equal(loaded, model.to(torch.bfloat16).float())
    assert load_model(folder, dtype=torch.bfloat16).embedding.weight.dtype == torch.bfloat16
    size = (folder / "model.safetensors").stat().st_size
    assert 2 * model.config.num_parameters < size < 2 * model.config.num_parameters + 4096


def test_buffers_are_never_rounded(tmp_path: Path) -> None:
    config = ModelConfig(
        vocab_size=30,
        dim=16,
        num_layers=1,
        num_heads=2,
        feed_forward="moe",
        num_experts=4,
        experts_top_k=2,
        expert_dim=8,
    )
    model = LanguageModel(config)
    model.mixtures[0].router.bias += torch.linspace(0.1, 0.2, 4)
    loaded = load_model(save_model(model, tmp_path / "model", dtype=torch.bfloat16))
    assert torch.equal(loaded.mixtures[0].router.bias, model.mixtures[0].router.bias)
    assert not torch.equal(loaded.mixtures[0].router.weight, model.mixtures[0].router.weight)


def test_replaces_a_model_and_leaves_nothing_else_behind(small_model, tmp_path: Path) -> None:
    save_model(small_model(seed=1), tmp_path / "model")
    save_model(small_model(seed=2), tmp_path / "model")
    assert equal(load_model(tmp_path / "model"), small_model(seed=2))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_never_replaces_what_is_no_model(small_model, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="exists and is no model folder"):
        save_model(small_model(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_write_keeps_the_model_that_was_there(small_model, tmp_path: Path, monkeypatch) -> None:
    save_model(small_model(seed=1), tmp_path / "model")
    written = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "card.json":
            raise OSError(28, "No space left on device")
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"Cannot write the model to .*model: .*No space left on device"):
        save_model(small_model(seed=2), tmp_path / "model")
    assert equal(load_model(tmp_path / "model"), small_model(seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_exchange_puts_the_model_back(small_model, tmp_path: Path, monkeypatch) -> None:
    save_model(small_model(seed=1), tmp_path / "model")
    rename = Path.rename

    def refuse_the_new_one(path: Path, target: Path) -> Path:
        if not path.name.endswith("-old") and Path(target).name == "model":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError, match="Cannot write the model to"):
        save_model(small_model(seed=2), tmp_path / "model")
    monkeypatch.undo()
    assert equal(load_model(tmp_path / "model"), small_model(seed=1))


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_model("no-such-model")
    assert "No model folder 'no-such-model'" in str(caught.value)
    assert all(repr(name) in str(caught.value) for name in model_names())


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_weights_are_noticed(small_model, tmp_path: Path, damage: str) -> None:
    weights = save_model(small_model(), tmp_path / "model") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    weights.write_bytes({"flip": content, "truncate": content[:-9], "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged: its SHA-256 is \w+, but card.json says \w+"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "card.json"])
@pytest.mark.parametrize(("content", "message"), [("{", "is damaged"), ("[]", "must hold a JSON object, not list")])
def test_damaged_json_is_noticed(small_model, tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "card.json", "model.safetensors"])
def test_a_missing_file_is_named(small_model, tmp_path: Path, name: str) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}: it is damaged, or no model folder"):
        load_model(folder)


def test_a_model_of_another_kind_is_refused(small_model, tmp_path: Path) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 50}))
    with pytest.raises(ValueError, match="a model of another kind"):
        load_model(folder)


def test_a_config_of_the_future_is_refused(small_model, tmp_path: Path) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"experts": 8}))
    with pytest.raises(ValueError, match=r"config.json: Unknown fields experts"):
        load_model(folder)


def test_tensors_that_do_not_fit_the_config_are_named(small_model, tmp_path: Path) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    foreign = {"embedding.weight": torch.zeros(50, 16), "lm_head.weight": torch.zeros(3)}
    replace_weights(folder, foreign)
    with pytest.raises(ValueError, match=r"missing \['blocks.0.*unknown \['lm_head.weight'\].*\['embedding.weight'\]"):
        load_model(folder)


def test_a_file_that_is_no_safetensors_is_refused_even_with_the_right_hash(small_model, tmp_path: Path) -> None:
    folder = save_model(small_model(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"not tensors at all")
    seal(folder)
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_model(folder)


def test_a_card_that_json_cannot_hold_changes_nothing(small_model, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(small_model(), tmp_path / "model", {"metrics": torch.zeros(2)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_an_unwritable_folder_is_named(small_model, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="Cannot write the model to"):
            save_model(small_model(), tmp_path / "model")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_parent_is_named(small_model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write the model to"):
        save_model(small_model(), tmp_path / "file" / "model")


def replace_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors")
    seal(folder)


def seal(folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps({"sha256": digest}))
