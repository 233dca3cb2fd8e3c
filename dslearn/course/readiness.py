"""Three small questions that tell a reader whether to begin: shapes, softmax, a training step.

Each check looks at behaviour only, and answers an unfinished cell kindly instead of with a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Literal["ready", "not yet", "not started"]
TrainStep = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], object]

_SCORE_SHAPE = (2, 8, 128, 128)
_STEPS = 3


@dataclass(frozen=True)
class Feedback:
    """What a check says, shown as text or Markdown."""

    state: State
    message: str

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.state == "ready"

    def _repr_markdown_(self) -> str:
        return f"**{self.state.capitalize()}.** {self.message}"

    def __repr__(self) -> str:
        return f"{self.state.capitalize()}. {self.message}"


def check_shapes(answer: object) -> Feedback:
    """Check the shape of ``q @ k.transpose(-2, -1)`` for q and k of shape (2, 8, 128, 64)."""
    if answer is None or answer is ...:
        return _not_started("Write the shape as a tuple of four numbers.")
    if not isinstance(answer, tuple | list | torch.Size):
        return Feedback("not yet", f"A shape is a tuple such as (2, 8, 128, 64); this is a {type(answer).__name__}.")
    given = tuple(answer)
    if given == _SCORE_SHAPE:
        return Feedback(
            "ready",
            "Every one of 128 queries meets every one of 128 keys: the square that this course shrinks.",
        )
    if given == (2, 8, 64, 64):
        return Feedback("not yet", "That is kᵀ times q. In q @ kᵀ the 64 is summed away, and the tokens stay.")
    if given == (2, 8, 128, 64):
        return Feedback("not yet", "That is the shape of q itself. A matrix product replaces the last axis.")
    if len(given) != 4:
        return Feedback("not yet", f"Batch and heads are kept, so there are four axes; {given} has {len(given)}.")
    return Feedback("not yet", f"Expected four axes, two of them the 128 tokens; got {given}. Try it with torch.zeros.")


def check_softmax(softmax: Callable[[Tensor], object]) -> Feedback:
    """Check a softmax over the last axis: weights, axis, large scores, excluded scores."""
    try:
        small = softmax(torch.tensor([[0.0, 1.0], [2.0, 2.0], [-1.0, 3.0]]))
        large = softmax(torch.tensor([[1000.0, 1001.0]]))
        masked = softmax(torch.tensor([[0.0, -torch.inf]]))
    except Exception as error:  # whatever a learner's function raises is told, not thrown
        return Feedback("not yet", f"Your function raised {type(error).__name__}: {error}")
    if small is None or small is ...:
        return _not_started("Replace the dots by an expression.")
    if not (isinstance(small, Tensor) and isinstance(large, Tensor) and isinstance(masked, Tensor)):
        return Feedback("not yet", f"softmax returns a tensor; this returned a {type(small).__name__}.")
    return _judge_softmax(small, large, masked)


def check_train_step(train_step: TrainStep) -> Feedback:
    """Check three steps of gradient descent against the same three made here."""
    try:
        weights, backward_called = _run(train_step)
    except Exception as error:  # whatever a learner's function raises is told, not thrown
        return Feedback("not yet", f"Your function raised {type(error).__name__}: {error}")
    if not backward_called:
        return _not_started("Write the three lines that turn a loss into better weights.")
    for known_step, state, message in _KNOWN_STEPS:
        if torch.allclose(weights, _run(known_step)[0], atol=1e-6):
            return Feedback(state, message)
    return Feedback("not yet", "The weights moved, but not as three plain steps of gradient descent move them.")


def _judge_softmax(small: Tensor, large: Tensor, masked: Tensor) -> Feedback:
    expected = torch.tensor([[0.0, 1.0], [2.0, 2.0], [-1.0, 3.0]]).softmax(-1)
    if small.shape != expected.shape:
        return Feedback("not yet", f"The weights have the shape of the scores, (3, 2); got {tuple(small.shape)}.")
    if torch.allclose(small.sum(0), torch.ones(2), atol=1e-5):
        return Feedback("not yet", "Your columns sum to one. Each row should: sum over the last axis, dim=-1.")
    if torch.allclose(small.sum(), torch.ones(()), atol=1e-5):
        return Feedback(
            "not yet",
            "The whole table sums to one. Each row should: sum over the last axis, and keepdim=True.",
        )
    if not torch.allclose(small, expected, atol=1e-5):
        return Feedback(
            "not yet",
            f"For the scores [0, 1] expected weights {_shown(expected[0])}; got {_shown(small[0])}.",
        )
    if not large.isfinite().all():
        return Feedback(
            "not yet",
            "Right for small scores; for [1000, 1001] exp overflows. Subtract the row's maximum first.",
        )
    if masked.isnan().any() or masked[0, 1] != 0:
        return Feedback("not yet", f"A score of −inf means never: expected weights [1, 0]; got {_shown(masked[0])}.")
    return Feedback("ready", "It sums to one, survives large scores and gives excluded ones nothing.")


def _fresh_model() -> nn.Linear:
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-0.5, 0.5, 6).view(2, 3))
    return model


def _run(train_step: TrainStep) -> tuple[Tensor, bool]:
    """Take some steps; return the weights, and whether a gradient was ever computed."""
    model, gradients = _fresh_model(), []
    model.weight.register_hook(gradients.append)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(_STEPS):
        train_step(model, optimizer, torch.eye(3) + 0.5, torch.tensor([0, 1, 1]))
    return model.weight.detach(), bool(gradients)


def _correct_step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def _never_cleared(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> None:
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def _late_backward(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> None:
    loss = F.cross_entropy(model(inputs), targets)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()


def _never_moved(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> None:
    F.cross_entropy(model(inputs), targets).backward()


_KNOWN_STEPS: tuple[tuple[TrainStep, State, str], ...] = (
    (
        _correct_step,
        "ready",
        "Clear the gradients, compute them, step: that is every training loop of this course.",
    ),
    (
        _never_cleared,
        "not yet",
        "The second step still carries the first one's gradient: clear the gradients in every step.",
    ),
    (
        _late_backward,
        "not yet",
        "Each step uses the gradient of the step before: call backward() before optimizer.step().",
    ),
    (
        _never_moved,
        "not yet",
        "The gradients are there, and the weights have not moved: either optimizer.step() is missing, or the "
        "gradients are cleared between backward() and step().",
    ),
)


def _not_started(hint: str) -> Feedback:
    return Feedback("not started", f"{hint} Then run both cells again.")


def _shown(weights: Tensor) -> str:
    return "[" + ", ".join(f"{weight:.3g}" for weight in weights.tolist()) + "]"
