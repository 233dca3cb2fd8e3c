"""The readiness questions: right answers written in several ways pass, wrong ones meet the message meant for them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dslearn.course.readiness import Feedback, check_shapes, check_softmax, check_train_step


@pytest.mark.parametrize("answer", [(2, 8, 128, 128), [2, 8, 128, 128], torch.Size([2, 8, 128, 128])])
def test_the_right_shape_passes(answer: object) -> None:
    assert check_shapes(answer).passed


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (..., "not started", "tuple of four numbers"),
        (None, "not started", "tuple of four numbers"),
        ((2, 8, 64, 64), "not yet", "kᵀ times q"),
        ((2, 8, 128, 64), "not yet", "shape of q itself"),
        ((128, 128), "not yet", "has 2"),
        ((2, 8, 128, 127), "not yet", "got (2, 8, 128, 127)"),
        ("2, 8, 128, 128", "not yet", "this is a str"),
    ],
)
def test_a_wrong_shape_is_explained(answer: object, state: str, told: str) -> None:
    feedback = check_shapes(answer)
    assert (feedback.state, told in feedback.message) == (state, True), feedback


def by_maximum(scores: torch.Tensor) -> torch.Tensor:
    weights = (scores - scores.max(dim=-1, keepdim=True).values).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def by_logsumexp(scores: torch.Tensor) -> torch.Tensor:
    return torch.exp(scores - torch.logsumexp(scores, -1)[:, None])


def by_rows(scores: torch.Tensor) -> torch.Tensor:
    return torch.stack([by_maximum(row[None])[0] for row in scores])


@pytest.mark.parametrize("softmax", [by_maximum, by_logsumexp, by_rows])
def test_a_right_softmax_passes(softmax) -> None:
    assert check_softmax(softmax).passed


def raising(scores: torch.Tensor) -> torch.Tensor:
    raise KeyError("scores")


@pytest.mark.parametrize(
    ("softmax", "state", "told"),
    [
        (lambda scores: ..., "not started", "Replace the dots"),
        (lambda scores: None, "not started", "Replace the dots"),
        (lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True), "not yet", "exp overflows"),
        (lambda scores: by_maximum(scores.T).T, "not yet", "columns sum to one"),
        (lambda scores: scores.exp() / scores.exp().sum(), "not yet", "whole table sums to one"),
        (lambda scores: scores / scores.sum(-1, keepdim=True), "not yet", "For the scores [0, 1] expected"),
        (lambda scores: by_maximum(scores)[0], "not yet", "(3, 2); got (2,)"),
        (lambda scores: by_maximum(scores.nan_to_num(neginf=0.0)), "not yet", "−inf means never"),
        (lambda scores: 1.0, "not yet", "this returned a float"),
        (raising, "not yet", "raised KeyError"),
    ],
)
def test_a_wrong_softmax_is_explained(softmax, state: str, told: str) -> None:
    feedback = check_softmax(softmax)
    assert (feedback.state, told in feedback.message) == (state, True), feedback


def clear_first(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss.item()


def clear_last(model, optimizer, inputs, targets):
    loss = -F.log_softmax(model(inputs), -1)[range(3), targets].mean()
    loss.backward()
    optimizer.step()
    model.zero_grad()
    return loss


@pytest.mark.parametrize("train_step", [clear_first, clear_last])
def test_a_right_training_step_passes(train_step) -> None:
    assert check_train_step(train_step).passed


def unfinished(model, optimizer, inputs, targets):
    return F.cross_entropy(model(inputs), targets).item()


def never_cleared(model, optimizer, inputs, targets):
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def cleared_too_soon(model, optimizer, inputs, targets):
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.zero_grad()
    optimizer.step()


def never_stepped(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()


def stepped_before(model, optimizer, inputs, targets):
    loss = F.cross_entropy(model(inputs), targets)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()


def uphill(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    (-F.cross_entropy(model(inputs), targets)).backward()
    optimizer.step()


def misspelt(model, optimizer, inputs, targets):
    optimizer.zero_gradients()


@pytest.mark.parametrize(
    ("train_step", "state", "told"),
    [
        (unfinished, "not started", "three lines"),
        (never_cleared, "not yet", "clear the gradients in every step"),
        (cleared_too_soon, "not yet", "cleared between backward() and step()"),
        (never_stepped, "not yet", "optimizer.step() is missing"),
        (stepped_before, "not yet", "call backward() before optimizer.step()"),
        (uphill, "not yet", "not as three plain steps"),
        (misspelt, "not yet", "raised AttributeError"),
    ],
)
def test_a_wrong_training_step_is_explained(train_step, state: str, told: str) -> None:
    feedback = check_train_step(train_step)
    assert (feedback.state, told in feedback.message) == (state, True), feedback


def test_feedback_reads_the_same_as_text_and_as_markdown() -> None:
    feedback = Feedback("not yet", "Look again.")
    assert repr(feedback) == "Not yet. Look again."
    assert feedback._repr_markdown_() == "**Not yet.** Look again."
