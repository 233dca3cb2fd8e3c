"""Learn how DeepSeek-style systems work by building them, with every number measured in front of you.

The library stands in rooms, each a package of its own. ``dslearn.attention`` needs nothing but torch, numpy,
einops, jaxtyping and safetensors; ``dslearn.training``, ``dslearn.plots`` and others ask for an extra.
A room is imported at its first use, so ``import dslearn`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = ("data", "attention", "moe", "models", "training", "plots", "widgets", "demos", "course")


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'dslearn' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return sorted(["__version__", *_ROOMS])
