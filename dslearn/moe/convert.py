"""The weights of other people's mixtures in ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dslearn.moe.experts import Experts
from dslearn.moe.layer import MoE


@torch.no_grad()
def from_transformers(module: nn.Module) -> MoE:
    """A :class:`MoE` with the weights of a ``DeepseekV3MoE`` or ``MixtralSparseMoeBlock`` of transformers 5, copied.

    It gives the same outputs and gradients. Jitter, which Mixtral may add while training, is left out.

    Raises:
        ValueError: the module is neither, or judges its groups by a rule other than the paper's.
    """
    readers = {"DeepseekV3MoE": _deepseek_shape, "MixtralSparseMoeBlock": _mixtral_shape}
    kind = type(module).__name__
    if kind not in readers:
        raise ValueError(f"module must be a {' or a '.join(readers)} of transformers; got {kind}")
    down: Tensor = module.experts.down_proj  # pyright: ignore[reportAssignmentType, reportAttributeAccessIssue]
    num_experts, dim, hidden_dim = down.shape
    layer = MoE(dim, hidden_dim, num_experts, **readers[kind](module)).to(device=down.device, dtype=down.dtype)
    state = module.state_dict()
    layer.router.weight.copy_(state["gate.weight"])
    layer.router.bias = state.get("gate.e_score_correction_bias", layer.router.bias).float().clone()
    layer.experts.gate_up.copy_(state["experts.gate_up_proj"])
    layer.experts.down.copy_(state["experts.down_proj"])
    if layer.shared is not None:
        _copy_shared(layer.shared, state)
    return layer


def _copy_shared(shared: Experts, state: dict[str, Tensor]) -> None:
    gate, up, down = (state[f"shared_experts.{name}_proj.weight"] for name in ("gate", "up", "down"))
    shared.gate_up.copy_(torch.cat([gate, up])[None])
    shared.down.copy_(down[None])


def _deepseek_shape(module) -> dict:
    config, gate = module.config, module.gate
    grouped = gate.num_group > 1
    if grouped and -(-gate.top_k // gate.topk_group) != 2:
        raise ValueError(
            "transformers judges a group by its two best experts, the paper by its top_k / topk_group best: "
            f"they agree for two only; got {gate.top_k} / {gate.topk_group}"
        )
    return {
        "top_k": gate.top_k,
        "num_shared": config.n_shared_experts,
        "score": "sigmoid",
        "num_groups": gate.num_group if grouped else None,
        "top_groups": gate.topk_group if grouped else None,
        "renormalize": gate.norm_topk_prob,
        "routed_scale": gate.routed_scaling_factor,
    }


def _mixtral_shape(module) -> dict:
    return {"top_k": module.top_k, "score": "softmax", "balance": "none"}
