"""Models on disk: weights as safetensors, their configuration and a card as JSON. Nothing is ever unpickled.

A folder holds `model.safetensors`, `config.json` and `card.json`; the card ends with the SHA-256 of the weights, so a
damaged file is noticed before it is used. Finished models are such folders inside the package.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dslearn.models.config import ModelConfig
from dslearn.models.transformer import LanguageModel

_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "card.json"
_FORMAT = "dslearn.LanguageModel"


def save_model(
    model: LanguageModel,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model into a folder, whole or not at all; a model already there is replaced.

    Args:
        card: what a user of the model should know, as JSON values: data, recipe, seed, time, metrics.
        dtype: of the parameters on disk; None keeps their own. Buffers do in any case: rounded, a router's bias no
            longer balances.

    Raises:
        FileExistsError: the folder holds something else than a model.
        OSError: it cannot be written; what was there before is kept.
        TypeError: the card holds what JSON cannot.
    """
    target = Path(folder)
    if target.exists() and not (target / _CONFIG).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is no model folder; name a new or an empty one")
    kept = dict(model.named_buffers())
    weights = save(
        {
            name: value.to(value.dtype if name in kept else dtype or value.dtype).contiguous()
            for name, value in model.state_dict().items()
        }
    )
    config = {"format": _FORMAT, **model.config.to_dict()}
    full_card = {**(card or {}), "sha256": hashlib.sha256(weights).hexdigest()}
    contents = {_WEIGHTS: weights, _CONFIG: _json_bytes(config), _CARD: _json_bytes(full_card)}
    try:
        _write_folder(target, contents)
    except OSError as error:
        raise type(error)(f"Cannot write the model to {target}: {error}") from error
    return target


def load_model(
    folder_or_name: str | os.PathLike[str],
    device: torch.device | str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """The model of a folder, or a finished one by its name, such as "language"; in evaluation mode.

    Args:
        folder_or_name: a finished model's name comes first; write `./language` for a folder that is called the same.
        device: where the parameters go; None leaves them on the CPU.
        dtype: of the parameters in memory, whatever it is on disk.

    Raises:
        FileNotFoundError: there is no such folder or name; the message lists the names there are.
        ValueError: the folder's model is damaged, or of another kind.
    """
    folder = _find(folder_or_name)
    config = _read_config(folder)
    weights = _read_weights(folder)
    model = LanguageModel(config)
    _require_same_tensors(folder, dict(model.state_dict()), weights)
    model.load_state_dict(weights)
    return model.to(device=device, dtype=dtype).eval()


def load_card(folder_or_name: str | os.PathLike[str]) -> dict[str, Any]:
    """The card of a model: data, recipe, seed, time, metrics and the SHA-256 of the weights.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    return _read_json(_find(folder_or_name) / _CARD)


def model_names() -> list[str]:
    """The finished models in the package."""
    finished = _finished_folder()
    return sorted(path.name for path in finished.iterdir() if (path / _CONFIG).is_file()) if finished.is_dir() else []


def _finished_folder() -> Path:
    return Path(str(files("dslearn.models"))) / "finished"


def _find(folder_or_name: str | os.PathLike[str]) -> Path:
    if str(folder_or_name) in model_names():
        return _finished_folder() / folder_or_name
    if Path(folder_or_name).is_dir():
        return Path(folder_or_name)
    names = ", ".join(map(repr, model_names())) or "none"
    raise FileNotFoundError(
        f"No model folder {str(folder_or_name)!r}, and no finished model of that name; there are: {names}"
    )


def _read_config(folder: Path) -> ModelConfig:
    values = _read_json(folder / _CONFIG)
    if values.pop("format", None) != _FORMAT:
        raise ValueError(
            f"{folder / _CONFIG} does not say 'format': {_FORMAT!r}: the folder holds a model of another kind"
        )
    try:
        return ModelConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{folder / _CONFIG}: {error}") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {_WEIGHTS}: it is damaged, or no model folder")
    content = path.read_bytes()
    expected = _read_json(folder / _CARD).get("sha256")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 is {found}, but {_CARD} says {expected}")
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}: it is damaged, or no model folder") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold a JSON object, not {type(values).__name__}")
    return values


def _require_same_tensors(folder: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    misshapen = [name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape]
    if missing or extra or misshapen:
        raise ValueError(
            f"{folder / _WEIGHTS} holds other tensors than its config asks for: "
            f"missing {missing[:3]}, unknown {extra[:3]}, of another shape {sorted(misshapen)[:3]}"
        )


def _json_bytes(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _write_folder(target: Path, contents: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        temporary.chmod(0o755)
        _replace_folder(target, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(target: Path, new: Path) -> None:
    """Folders cannot be exchanged in one step everywhere: the old one steps aside, and returns if the new one fails."""
    aside = new.with_name(new.name + "-old")
    if target.exists():
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
