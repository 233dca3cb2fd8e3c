"""Experts on GPUs: the published example, and what must hold of any placement."""

from __future__ import annotations

import pytest
import torch

from dslearn.moe import place_experts

# DeepSeek's EPLB repository (2025), the README's example.
PUBLISHED = torch.tensor(
    [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ]
)


def test_the_published_example() -> None:
    placed = place_experts(PUBLISHED, num_replicas=16, num_groups=4, num_nodes=2, num_gpus=8)
    assert placed.physical_to_logical.tolist() == [
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ]
    loads = placed.gpu_loads(PUBLISHED.double(), 8)
    assert (loads.mean(1) / loads.amax(1)).tolist() == pytest.approx([0.828, 0.805], abs=5e-4)


@pytest.mark.parametrize(("groups", "nodes"), [(8, 2), (8, 4), (6, 4), (1, 1), (3, 2)])
def test_every_expert_has_a_slot_and_groups_stay_together(groups: int, nodes: int) -> None:
    load = torch.rand(3, 24).square()
    placed = place_experts(load, num_replicas=32, num_groups=groups, num_nodes=nodes, num_gpus=8)
    for row, counts in zip(placed.physical_to_logical, placed.replicas, strict=True):
        assert torch.equal(row.bincount(minlength=24), counts) and int(counts.min()) >= 1
        if groups % nodes == 0:
            by_node = row.view(nodes, -1)
            homes = [{node for node in range(nodes) if expert in by_node[node]} for expert in range(24)]
            assert all(len(home) == 1 for home in homes)
            assert all(len(set.union(*homes[at : at + 24 // groups])) == 1 for at in range(0, 24, 24 // groups))


def test_replicas_even_the_load() -> None:
    load = torch.tensor([1000, 1, 1, 1, 1, 1, 1, 1])
    alone = place_experts(load, num_replicas=8, num_groups=1, num_nodes=1, num_gpus=4)
    copied = place_experts(load, num_replicas=12, num_groups=1, num_nodes=1, num_gpus=4)
    assert copied.replicas[0, 0] == 5
    busiest = [placed.gpu_loads(load[None].double(), 4).max() for placed in (alone, copied)]
    assert busiest[1] < busiest[0] / 2


def test_zeros_are_loads_too() -> None:
    placed = place_experts(torch.zeros(8), num_replicas=8, num_groups=1, num_nodes=1, num_gpus=2)
    assert sorted(placed.physical_to_logical[0].tolist()) == list(range(8))


@pytest.mark.parametrize(
    ("load", "change", "says"),
    [
        (torch.ones(8), {"num_replicas": 7}, "num_replicas=7 slots cannot hold 8 experts"),
        (torch.ones(8), {"num_groups": 3}, "num_groups must divide the experts: got 3 for 8"),
        (torch.ones(8), {"num_nodes": 3}, "num_nodes must divide num_gpus: got 3 for 4"),
        (torch.ones(8), {"num_replicas": 10}, "num_gpus must divide num_replicas: got 4 for 10"),
        (torch.ones(8), {"num_gpus": 0, "num_nodes": 1}, "at least 1"),
        (torch.ones(2, 2, 2), {}, r"\(layers, experts\) or \(experts,\); got the shape \(2, 2, 2\)"),
        (torch.tensor([1.0, torch.nan] * 4), {}, "finite"),
        (torch.tensor([1.0, -1.0] * 4), {}, "not negative"),
    ],
)
def test_bad_input(load, change, says: str) -> None:
    sizes = {"num_replicas": 8, "num_groups": 2, "num_nodes": 2, "num_gpus": 4, **change}
    with pytest.raises(ValueError, match=says):
        place_experts(load, **sizes)
