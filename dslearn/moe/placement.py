"""Which GPU holds which expert: the heaviest are held twice, and all GPUs are to be as busy as each other.

Source: the hierarchical and global policies of DeepSeek's EPLB (2025), from their published description.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Where the replicas of each expert stand.

    Attributes:
        physical_to_logical: the expert in each slot, (layers, replicas); the slots of one GPU stand together.
        replicas: how many slots hold each expert, (layers, experts).
    """

    physical_to_logical: Int[Tensor, "layers replicas"]
    replicas: Int[Tensor, "layers experts"]

    def gpu_loads(self, load: Float[Tensor, "layers experts"], num_gpus: int) -> Float[Tensor, "layers gpus"]:
        """What each GPU gets of ``load`` when the replicas of an expert share its tokens evenly."""
        shared = load / self.replicas
        return shared.gather(1, self.physical_to_logical).unflatten(1, (num_gpus, -1)).sum(-1)


def place_experts(load: Tensor, *, num_replicas: int, num_groups: int, num_nodes: int, num_gpus: int) -> Placement:
    """Place experts by their load: groups of experts on nodes, replicas within each node, slots on its GPUs.

    Where the groups do not divide among the nodes, nodes are ignored and replicas are spread globally.

    Args:
        load: tokens of each expert, (layers, experts), or (experts,) for one layer; zeros are allowed.
        num_replicas: slots in all, at least as many as experts.
        num_groups: groups of experts that should stay on one node.
        num_nodes: computers.
        num_gpus: GPUs of all nodes together.

    Raises:
        ValueError: a number does not divide as it must, or the loads are not finite, non-negative numbers.
    """
    load = _checked(load, num_replicas, num_groups, num_nodes, num_gpus)
    if num_groups % num_nodes:
        num_groups = num_nodes = 1
    layers, experts = load.shape
    group_size, groups_a_node = experts // num_groups, num_groups // num_nodes

    by_group = load.unflatten(1, (num_groups, group_size)).sum(-1)
    node, rank = _pack(by_group, num_nodes)
    slot_of_group = node * groups_a_node + rank
    slot = (slot_of_group[:, :, None] * group_size + torch.arange(group_size)).flatten(1)  # of each expert, by node
    expert_at = _inverse(slot)

    by_node = load.gather(1, expert_at).view(layers * num_nodes, -1)
    held, counts = _replicate(by_node, num_replicas // num_nodes)
    by_replica = (by_node / counts).gather(1, held)
    gpu, rank = _pack(by_replica, num_gpus // num_nodes)
    place = gpu * (num_replicas // num_gpus) + rank
    in_order = held.gather(1, _inverse(place)).view(layers, num_nodes, -1)
    first = torch.arange(num_nodes)[:, None] * (experts // num_nodes)  # of each node, among the experts by node
    physical = expert_at.gather(1, (in_order + first).flatten(1))
    return Placement(physical, counts.view(layers, -1).gather(1, slot))


def _pack(
    weights: Float[Tensor, "rows items"], packs: int
) -> tuple[Int[Tensor, "rows items"], Int[Tensor, "rows items"]]:
    """Each item's pack and its rank there: heaviest first, into the lightest pack that has room; equal counts."""
    rows, items = weights.shape
    room = items // packs
    pack, rank = torch.zeros_like(weights, dtype=torch.long), torch.zeros_like(weights, dtype=torch.long)
    for row in range(rows):
        loads, filled = [0.0] * packs, [0] * packs
        for item in weights[row].sort(descending=True, stable=True).indices.tolist():
            lightest = min((p for p in range(packs) if filled[p] < room), key=loads.__getitem__)
            pack[row, item], rank[row, item] = lightest, filled[lightest]
            loads[lightest] += float(weights[row, item])
            filled[lightest] += 1
    return pack, rank


def _replicate(
    load: Float[Tensor, "rows experts"], slots: int
) -> tuple[Int[Tensor, "rows slots"], Int[Tensor, "rows experts"]]:
    """The expert in each slot and the replicas of each: every further slot goes to the largest load a replica."""
    rows, experts = load.shape
    held = torch.arange(experts).repeat(rows, 1)
    counts = torch.ones(rows, experts, dtype=torch.long)
    for _ in range(slots - experts):
        busiest = (load / counts).argmax(dim=1, keepdim=True)
        held = torch.cat([held, busiest], dim=1)
        counts.scatter_add_(1, busiest, torch.ones_like(busiest))
    return held, counts


def _inverse(permutation: Int[Tensor, "rows items"]) -> Int[Tensor, "rows items"]:
    return torch.empty_like(permutation).scatter_(
        1, permutation, torch.arange(permutation.shape[1]).expand_as(permutation)
    )


def _checked(load: Tensor, num_replicas: int, num_groups: int, num_nodes: int, num_gpus: int) -> Tensor:
    load = load[None] if load.ndim == 1 else load
    if load.ndim != 2 or not load.numel():
        raise ValueError(f"load must be (layers, experts) or (experts,); got the shape {tuple(load.shape)}")
    load = load.double().cpu()
    if not bool(((load >= 0) & load.isfinite()).all()):
        raise ValueError("loads must be finite and not negative")
    experts = load.shape[1]
    if num_replicas < experts:
        raise ValueError(f"num_replicas={num_replicas} slots cannot hold {experts} experts")
    if min(num_groups, num_nodes, num_gpus) < 1:
        raise ValueError(f"groups, nodes and GPUs must be at least 1; got {num_groups}, {num_nodes} and {num_gpus}")
    for many, of, name in (
        (experts, num_groups, "num_groups must divide the experts"),
        (num_gpus, num_nodes, "num_nodes must divide num_gpus"),
        (num_replicas, num_gpus, "num_gpus must divide num_replicas"),
    ):
        if many % of:
            raise ValueError(f"{name}: got {of} for {many}")
    return load
