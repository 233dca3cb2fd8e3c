"""What balancing costs in quality, and what it brings: small mixtures of experts trained on text by three seeds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.report import Report
from dslearn.course.provenance import library_hash
from dslearn.models import LanguageModel, MixtureUse, evaluate_mixture, load_card, load_model, save_model
from dslearn.moe import load_report
from dslearn.training.mixture import MixtureRecipe, MixtureText, fit_mixture

SEEDS = (0, 1, 2)
# Finished networks wait here for an interrupted run of the same code to go on.
FOLDER = Path("work/benchmarks/moe") / library_hash()
NODES, TOP_NODES = 8, 4
FINE: dict[str, Any] = {"num_experts": 64, "experts_top_k": 8, "expert_dim": 16}  # as many parameters, finer experts
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", {}),
    "aux": ("aux", {}),
    "bias": ("bias", {}),
    "capacity": ("capacity", {}),
    "unlimited": ("bias", FINE),
    "limited": ("bias", {**FINE, "num_groups": NODES, "top_groups": TOP_NODES}),
}


@dataclass(frozen=True)
class Held:
    """What a network did with held-out text, and how many sends its choices need for each token.

    Attributes:
        use: loads and loss.
        sends: one an expert, and one a node with an expert for the token; each node holds as many experts.
    """

    use: MixtureUse
    sends: tuple[float, float]


def measure(report: Report) -> None:
    """Train what is not trained yet, two at a time, then read held-out text with each."""
    seeds, kinds = ((0,), ("none", "bias")) if report.quick else (SEEDS, tuple(KINDS))
    jobs = [(kind, seed) for seed in seeds for kind in kinds]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _in_a_process(*job, quick=report.quick), jobs))
    recipe = _recipe("none", 0, quick=report.quick)
    held_out = MixtureText(prose_share=recipe.prose_share).held_out(
        seq_len=recipe.seq_len, tokens=4096 if report.quick else 120_000
    )
    held = {
        kind: [_read(load_model(_home(kind, seed, quick=report.quick)), held_out) for seed in seeds] for kind in kinds
    }
    loads(report, held, held_out[:, 1:].numel())
    if "limited" in held:
        nodes(report, held)


def loads(report: Report, held: dict[str, list[Held]], tokens: int) -> None:
    """Use of the experts in the worst layer, dropped choices, and loss beside the unbalanced network's."""
    for kind in [kind for kind in ("none", "aux", "bias", "capacity") if kind in held]:
        uses = [min(layer.utilisation for layer in one.use.reports) for one in held[kind]]
        beside = f"worst layer, lowest of {len(uses)} seeds, highest {max(uses):.3f}; {tokens:,} held-out bytes"
        report.add(f"text-use-{kind}", min(uses), "", beside, by_seed=uses)
        drops = [max(layer.drop_rate for layer in one.use.reports) for one in held[kind]]
        report.add(f"text-dropped-{kind}", max(drops), "", "share of the choices, worst layer and seed", by_seed=drops)
        if kind != "none":
            _loss(report, f"text-loss-{kind}", held[kind], held["none"], "the unbalanced network's")
    for many in (2048, tokens):
        fair = [_fair_use(many, 16, 2, seed) for seed in range(9)]
        report.add(f"fair-use-{many}", statistics.median(fair), "", "lots drawn: what a fair router reaches")


def nodes(report: Report, held: dict[str, list[Held]]) -> None:
    """Bytes of dispatch of 64 experts, top-8, on eight nodes: one send an expert, a node, and one of four nodes."""
    for kind in ("unlimited", "limited"):
        saved = [100 * (1 - one.sends[1] / held["unlimited"][seed].sends[0]) for seed, one in enumerate(held[kind])]
        what = "at most four nodes a token" if kind == "limited" else "a send for each node, without a limit"
        beside = f"one send an expert, worst of {len(saved)} seeds; {what}"
        report.add(f"dispatch-saved-{kind}", min(saved), "%", beside, by_seed=saved)
    _loss(report, "dispatch-loss-limited", held["limited"], held["unlimited"], "without a limit")


def _loss(report: Report, row: str, ours: list[Held], theirs: list[Held], beside: str) -> None:
    ratios = [one.use.nats / other.use.nats for one, other in zip(ours, theirs, strict=True)]
    told = f"{beside}, worst of {len(ratios)} seeds, best {min(ratios):.4f}"
    report.add(row, max(ratios), "×", told, nats=[one.use.nats for one in ours], beside=[o.use.nats for o in theirs])


@torch.no_grad()
def _read(model: LanguageModel, held_out: Int[Tensor, "batch window"]) -> Held:
    """Sends are counted as `dslearn.moe.exchange` does, for a token that stands on none of the nodes."""
    pairs = visits = 0

    def count(layer: Any, inputs: Any, out: Any) -> None:
        nonlocal pairs, visits
        node = layer.routing.expert // max(1, layer.num_experts // NODES)
        pairs += len(node)
        visits += (layer.routing.token * NODES + node).unique().numel()

    handles = [layer.register_forward_hook(count) for layer in model.mixtures]
    use = evaluate_mixture(model, held_out)
    for handle in handles:
        handle.remove()
    tokens = held_out[:, 1:].numel() * len(model.mixtures)
    return Held(use, (pairs / tokens, visits / tokens))


def _fair_use(tokens: int, experts: int, top_k: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(tokens, experts, generator=generator).topk(top_k).indices
    return load_report(torch.bincount(chosen.flatten(), minlength=experts)).utilisation


def _recipe(kind: str, seed: int, *, quick: bool) -> MixtureRecipe:
    recipe = MixtureRecipe(seed=seed)
    recipe = replace(recipe, shape={**recipe.shape, **KINDS[kind][1]})
    return replace(recipe, steps=4, settle_steps=2) if quick else recipe


def _home(kind: str, seed: int, *, quick: bool) -> Path:
    return FOLDER / ("quick" if quick else "whole") / f"{kind}-{seed}"


def _in_a_process(kind: str, seed: int, *, quick: bool) -> None:
    """Trains one network on one core: two of them side by side are done sooner than one after the other on two."""
    home = _home(kind, seed, quick=quick)
    if home.is_dir() and load_card(home)["recipe"] == _recipe_as_json(kind, seed, quick=quick):
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.mixtures", kind, str(seed), *(["--quick"] if quick else [])]
    subprocess.run(command, env=environment, check=True)


def _train(kind: str, seed: int, *, quick: bool) -> None:
    recipe, home = _recipe(kind, seed, quick=quick), _home(kind, seed, quick=quick)
    model = recipe.new_model(KINDS[kind][0])
    text = MixtureText(prose_share=recipe.prose_share)
    fit_mixture(model, recipe, text.train(recipe).batch, folder=home.with_suffix(".run"))
    save_model(model, home, {"recipe": _recipe_as_json(kind, seed, quick=quick)})


def _recipe_as_json(kind: str, seed: int, *, quick: bool) -> Any:
    return json.loads(json.dumps(asdict(_recipe(kind, seed, quick=quick))))


if __name__ == "__main__":
    _train(sys.argv[1], int(sys.argv[2]), quick="--quick" in sys.argv)
