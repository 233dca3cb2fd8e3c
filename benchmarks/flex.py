"""PyTorch's compiled flex_attention on given blocks, as a peer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def flex_on_blocks(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, *, block_size: int) -> Callable[[], Tensor] | None:
    """The compiled kernel on the blocks of :func:`select_blocks`, its result checked; None where it cannot compile."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    def causal(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    past = chosen[..., 1:].sort(dim=-1, descending=True).values
    width = chosen.shape[2]
    full_number = (past >= 0).sum(-1).int()
    full = torch.nn.functional.pad(past.clamp(min=0), (0, max(0, width - past.shape[-1])))[..., :width].int()
    own = torch.nn.functional.pad(chosen[..., :1], (0, width - 1)).int()
    mask = BlockMask.from_kv_blocks(
        torch.ones_like(full_number), own, full_number, full, BLOCK_SIZE=block_size, mask_mod=causal
    )
    torch._dynamo.reset()
    try:
        compiled = torch.compile(flex_attention, dynamic=False)
        compiled(q, k, v, block_mask=mask)
    except Exception as error:  # the compiler's own errors, and a missing C++ compiler, share no type
        print(f"  flex_attention: {type(error).__name__}")
        return None
    return lambda: compiled(q, k, v, block_mask=mask)
