"""The experts' kernel against the same sum written as a loop over tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dslearn.moe.kernel import mix_experts

DIM, HIDDEN, EXPERTS = 5, 3, 5  # an odd number of experts: one is computed alone


def plain(x: Tensor, gate_up: Tensor, down: Tensor, token: Tensor, expert: Tensor, weight: Tensor) -> Tensor:
    rows = [torch.zeros(x.shape[1], dtype=x.dtype) for _ in x]
    for t, e, w in zip(token.tolist(), expert.tolist(), weight, strict=True):
        gate, up = (gate_up[e] @ x[t]).chunk(2)
        rows[t] = rows[t] + w * (down[e] @ (F.silu(gate) * up))
    return torch.stack(rows)


def drawn(*experts_of_tokens: list[int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Inputs in which each token has the listed experts."""
    generator = torch.Generator().manual_seed(len(experts_of_tokens))
    pairs = [(t, e) for t, experts in enumerate(experts_of_tokens) for e in experts]
    token, expert = (torch.tensor(side, dtype=torch.long) for side in ([p[0] for p in pairs], [p[1] for p in pairs]))
    shapes = (len(experts_of_tokens), DIM), (EXPERTS, 2 * HIDDEN, DIM), (EXPERTS, DIM, HIDDEN), (len(pairs),)
    x, gate_up, down, weight = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    )
    return x, gate_up, down, token, expert, weight


CASES = {
    "two each": [[0, 1], [2, 3], [1, 3]],
    "all on one": [[2], [2], [2]],
    "an idle expert": [[0, 1], [1, 0], [3, 1]],
    "a token without any": [[0], [], [1, 2, 3]],
    "one token": [[3, 0]],
    "nothing at all": [[], []],
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_loop(name: str) -> None:
    inputs = drawn(*CASES[name])
    learned = [i for i in inputs if i.requires_grad]
    out, expected = mix_experts(*inputs), plain(*inputs)
    torch.testing.assert_close(out, expected)
    with torch.no_grad():  # then no expert's hidden layer outlasts it
        torch.testing.assert_close(mix_experts(*inputs), expected)
    pull = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(out, learned, pull)
    wanted = torch.autograd.grad(expected + 0 * sum(i.sum() for i in learned), learned, pull)
    for got, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, right)


def test_gradients_by_differences() -> None:
    x, gate_up, down, token, expert, weight = drawn(*CASES["a token without any"])
    assert torch.autograd.gradcheck(
        lambda x, gate_up, down, weight: mix_experts(x, gate_up, down, token, expert, weight),
        (x, gate_up, down, weight),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    inputs = drawn(*CASES["two each"], dtype=torch.float32)
    half = [i.detach().to(dtype) if i.is_floating_point() else i for i in inputs]
    out = mix_experts(*half)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), plain(*inputs), atol=0.2, rtol=0.1)


def test_autocast_computes_in_its_precision_and_returns_gradients_in_the_parameters() -> None:
    inputs = drawn(*CASES["two each"], dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mix_experts(*inputs)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(i.grad is not None and i.grad.dtype == torch.float32 for i in inputs if i.requires_grad)


def test_pairs_out_of_order_are_refused() -> None:
    x, gate_up, down, token, expert, weight = drawn([0, 1], [2], [1])
    with pytest.raises(ValueError, match="ascending order; got 0 after 2"):
        mix_experts(x, gate_up, down, token[[2, 3, 0, 1]], expert, weight)
