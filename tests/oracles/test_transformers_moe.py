"""Our mixture against transformers' DeepSeek-V3 and Mixtral: the same weights, the same outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import DeepseekV3Config, MixtralConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from dslearn.moe import from_transformers

DEEPSEEK = [
    {"n_routed_experts": 16, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2},
    {"n_routed_experts": 32, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 1.0},
    {"n_routed_experts": 12, "num_experts_per_tok": 6, "n_group": 4, "topk_group": 3, "norm_topk_prob": False},
    {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1, "n_shared_experts": 2},
]


def deepseek(**shape) -> DeepseekV3MoE:
    sizes = {"hidden_size": 24, "moe_intermediate_size": 10, "intermediate_size": 40, "num_hidden_layers": 1}
    module = DeepseekV3MoE(DeepseekV3Config(**sizes, **shape))
    drawn(module)
    module.gate.e_score_correction_bias.normal_(std=0.1)
    return module


def mixtral(**shape) -> MixtralSparseMoeBlock:
    module = MixtralSparseMoeBlock(MixtralConfig(hidden_size=24, intermediate_size=10, num_hidden_layers=1, **shape))
    drawn(module)
    return module


def drawn(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize(
    "theirs",
    [
        *(lambda shape=shape: deepseek(**shape) for shape in DEEPSEEK),
        lambda: mixtral(num_local_experts=8, num_experts_per_tok=2),
        lambda: mixtral(num_local_experts=5, num_experts_per_tok=1),
    ],
)
def test_same_weights_same_outputs_same_gradients(theirs) -> None:
    theirs = theirs().eval()
    ours = from_transformers(theirs)
    x, direction = torch.randn(2, 3, 20, 24)
    expected, y = theirs(x), ours(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    (expected * direction).sum().backward()
    (y * direction).sum().backward()
    torch.testing.assert_close(ours.router.weight.grad, theirs.gate.weight.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.experts.down.grad, theirs.experts.down_proj.grad, atol=1e-5, rtol=1e-5)


def test_the_weights_are_a_copy() -> None:
    theirs = deepseek(**DEEPSEEK[0])
    ours = from_transformers(theirs)
    before = ours.router.bias.clone()
    theirs.gate.e_score_correction_bias += 1
    assert torch.equal(ours.router.bias, before)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="DeepseekV3MoE or a MixtralSparseMoeBlock of transformers; got Linear"):
        from_transformers(torch.nn.Linear(2, 2))
    odd = deepseek(n_routed_experts=16, num_experts_per_tok=4, n_group=4, topk_group=4)
    with pytest.raises(ValueError, match=r"two best experts.*got 4 / 4"):
        from_transformers(odd)
