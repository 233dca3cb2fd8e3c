"""The five numbers of a load."""

from __future__ import annotations

import math

import pytest
import torch

from dslearn.moe import load_report


def test_even_loads() -> None:
    report = load_report(torch.tensor([5, 5, 5, 5]))
    assert (report.max_violation, report.variation, report.utilisation, report.drop_rate) == (0, 0, 1, 0)
    assert report.entropy == pytest.approx(1)


def test_an_uneven_load_by_hand() -> None:
    report = load_report(torch.tensor([8, 4, 4, 0]), dropped=4)
    assert report.max_violation == pytest.approx(1.0)
    assert report.utilisation == pytest.approx(0.5)
    assert report.variation == pytest.approx(math.sqrt(8) / 4)
    assert report.entropy == pytest.approx(1.5 * math.log(2) / math.log(4))
    assert report.drop_rate == pytest.approx(4 / 20)


def test_one_for_all_and_one_alone() -> None:
    assert load_report(torch.tensor([7, 0, 0, 0])).entropy == 0
    assert load_report(torch.tensor([7])).entropy == 1


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (torch.zeros(4), "no expert got a token"),
        (torch.ones(2, 2), r"one number an expert; got the shape \(2, 2\)"),
        (torch.tensor([1.0, -1.0]), "not negative"),
        (torch.tensor([1.0, torch.nan]), "finite"),
        (torch.zeros(0), "one number an expert"),
    ],
)
def test_what_is_no_load(counts, says: str, unchecked) -> None:
    with pytest.raises(ValueError, match=says):
        load_report(counts)
