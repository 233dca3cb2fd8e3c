"""How evenly experts are used: five numbers that only together tell the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LoadReport:
    """How evenly tokens fell on experts.

    Attributes:
        max_violation: max / mean − 1, "MaxVio": 0 for even loads.
        variation: standard deviation / mean.
        entropy: of the loads, divided by that of even ones: 1 for even loads, 0 for all on one.
        utilisation: mean / max: 1 for even loads. With every expert waiting for the busiest, the share of time at work.
        drop_rate: share of the choices that found no room.

    Source: MaxVio is that of Wang et al. 2024, arXiv 2408.15664, equation 4.
    """

    max_violation: float
    variation: float
    entropy: float
    utilisation: float
    drop_rate: float


def load_report(counts: Int[Tensor, " experts"] | Float[Tensor, " experts"], *, dropped: int | float = 0) -> LoadReport:
    """The report of how many tokens each expert got, and how many choices beside were dropped.

    Raises:
        ValueError: ``counts`` is not a list of non-negative finite numbers, one an expert, of which one is positive.
    """
    if counts.ndim != 1 or not len(counts):
        raise ValueError(f"counts must be one number an expert; got the shape {tuple(counts.shape)}")
    loads = counts.double()
    if not bool(((loads >= 0) & loads.isfinite()).all()) or dropped < 0:
        raise ValueError(f"counts and dropped must be finite and not negative; got {counts.tolist()} and {dropped}")
    if not (total := float(loads.sum())):
        raise ValueError("no expert got a token: there is no load to report")
    mean, top = total / len(loads), float(loads.max())
    shares = loads[loads > 0] / total
    even = math.log(len(loads))
    return LoadReport(
        max_violation=top / mean - 1,
        variation=float(loads.std(correction=0)) / mean,
        entropy=-float((shares * shares.log()).sum()) / even if even else 1.0,
        utilisation=mean / top,
        drop_rate=dropped / (total + dropped),
    )
