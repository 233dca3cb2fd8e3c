"""The exercises' own modules: what is drawn, what is right, and which mistakes are known, one exercise each."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dslearn.course.exercise import Exercise

MODULES = {
    "00.1": "bits_per_byte",
    "01.1": "cost_model",
    "01.2": "block_bounds",
    "01.3": "causal_top_k",
    "01.4": "gather_attention",
    "01.5": "tree_descent",
    "01.6": "nine_defects",
    "01.7": "selector_loss",
    "01.8": "crossover",
    "02.1": "top_k_gate",
    "02.2": "cumulative_dispatch",
    "02.3": "weighted_combine",
    "02.4": "bias_update",
    "02.5": "capacity_reroute",
    "02.6": "group_limit",
    "02.7": "place_replicas",
    "02.8": "listed_gate",
}


def load(exercise_id: str) -> Exercise:
    """The checked exercise of that id.

    Raises:
        ValueError: there is none.
    """
    if exercise_id not in MODULES:
        near = difflib.get_close_matches(str(exercise_id), MODULES, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(MODULES)}"
        raise ValueError(f"no checked exercise is called {exercise_id!r}; {hint}")
    return import_module(f"dslearn.course.exercises.{MODULES[exercise_id]}").EXERCISE
