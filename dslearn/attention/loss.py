"""How a selector learns: from where dense attention looks."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dslearn.attention.tree import BlockTree

ROWS = 256  # queries whose dense weights are held at a time


@torch.no_grad()
def dense_block_mass(
    q: Float[Tensor, "batch heads tokens dim"], k: Float[Tensor, "batch heads tokens dim"], *, block_size: int
) -> Float[Tensor, "batch heads tokens blocks"]:
    """How much of each query's causal softmax falls on each key block, the last of which may be incomplete."""
    tokens, dim = q.shape[-2:]
    blocks = -(-tokens // block_size)
    mass = q.new_empty(*q.shape[:3], blocks, dtype=torch.float32)
    key = torch.arange(blocks * block_size, device=q.device)
    padded = torch.nn.functional.pad(k, (0, 0, 0, len(key) - tokens))
    for at in range(0, tokens, ROWS):
        rows = slice(at, min(at + ROWS, tokens))
        end = -(-rows.stop // block_size) * block_size
        scores = (q[:, :, rows] @ padded[:, :, :end].mT).float() * dim**-0.5
        scores.masked_fill_(key[:end] > key[rows, None], -torch.inf)
        mass[:, :, rows] = 0
        mass[:, :, rows, : end // block_size] = reduce(
            scores.softmax(-1), "b h n (block size) -> b h n block", "sum", size=block_size
        )
    return mass


def spread_mass(
    chosen: Int[Tensor, "batch heads tokens top_k"], mass: Float[Tensor, "batch heads tokens top_k"], blocks: int
) -> Float[Tensor, "batch heads tokens blocks"]:
    """Masses of the chosen blocks at their place among all; the others have none."""
    full = mass.new_zeros(*mass.shape[:3], blocks + 1)
    return full.scatter_(-1, torch.where(chosen < 0, blocks, chosen), mass)[..., :blocks]


def selector_loss(
    q: Float[Tensor, "batch heads tokens rank"],
    tree: BlockTree,
    mass: Float[Tensor, "batch heads tokens blocks"],
    considered: Bool[Tensor, "batch heads tokens blocks"] | None = None,
) -> Float[Tensor, ""]:
    """KL divergence from the attention's mass over past nodes to the selector's softmax over them, level by level.

    At each level of the tree the target is the attention that falls below each complete node before the query's own,
    the prediction softmax(score / √rank) over the same nodes. A query counts by how much of its attention lies in the
    past at all. Mean over queries, heads and levels, in nats.

    Args:
        q: index queries; the gradient goes to them and through the tree to the index keys.
        tree: of the index keys.
        mass: attention on each block, without gradient.
        considered: blocks to compare over (the selected ones, in the sparse stage); all past ones unless told.

    Source: DeepSeek-V3.2-Exp report 2025, equations 3 and 4, there for single tokens; here for the nodes of a tree.
    """
    own = torch.arange(q.shape[-2], device=q.device) // tree.block_size
    losses = []
    for level in range(len(tree.levels)):
        group, nodes = tree.branching**level, tree.count(level)
        if not nodes:
            continue
        visible = torch.arange(nodes, device=q.device) < (own // group)[:, None]
        if considered is not None:
            below = rearrange(considered[..., : nodes * group], "b h n (node block) -> b h n node block", block=group)
            visible = visible & below.any(-1)
        target = reduce(mass[..., : nodes * group], "b h n (node block) -> b h n node", "sum", block=group)
        losses.append(_divergence(target, tree.scores(q, level) * q.shape[-1] ** -0.5, visible))
    return torch.stack(losses).mean() if losses else q.sum() * 0.0


def _divergence(
    target: Float[Tensor, "*#rows nodes"], scores: Float[Tensor, "*#rows nodes"], visible: Bool[Tensor, "*#rows nodes"]
) -> Float[Tensor, ""]:
    """Σ p log(p / p̂) with p̂ = softmax(scores) · Σp over the visible nodes, mean over rows."""
    target = target.masked_fill(~visible, 0)
    predicted = scores.float().masked_fill(~visible, -1e30).log_softmax(-1)
    total = target.sum(-1, keepdim=True).clamp(min=1e-30)
    return (torch.xlogy(target, target / total) - target * predicted).sum(-1).mean()
