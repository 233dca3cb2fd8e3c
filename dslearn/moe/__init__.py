"""Mixture of experts: routers, balance, capacity, the layer, and where its experts stand."""

from __future__ import annotations

from dslearn.moe.balance import sequence_loss, switch_loss
from dslearn.moe.capacity import capacity_of, position_in_expert, reroute, with_room
from dslearn.moe.convert import from_transformers
from dslearn.moe.exchange import ExpertParallel
from dslearn.moe.experts import Experts
from dslearn.moe.layer import Balance, MoE, Overflow
from dslearn.moe.load import LoadReport, load_report
from dslearn.moe.placement import Placement, place_experts
from dslearn.moe.router import Router, Routing, Score, weigh, within_groups

__all__ = [
    "Balance",
    "ExpertParallel",
    "Experts",
    "LoadReport",
    "MoE",
    "Overflow",
    "Placement",
    "Router",
    "Routing",
    "Score",
    "capacity_of",
    "from_transformers",
    "load_report",
    "place_experts",
    "position_in_expert",
    "reroute",
    "sequence_loss",
    "switch_loss",
    "weigh",
    "with_room",
    "within_groups",
]
