"""Answers compared with what is right: their kind, their values, their habits, and how to print them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4
_PRINTED = 80  # numbers of a tensor that are still printed one by one


def close(a: Any, b: Any) -> bool:
    """Whether two answers are the same, numbers up to rounding."""
    left, right = list(leaves(a)), list(leaves(b))
    return len(left) == len(right) and all(map(_near, left, right))


def leaves(answer: Any) -> Iterator[Tensor]:
    """The numbers of an answer, as double-precision tensors; None is a number of no size."""
    if isinstance(answer, Tensor):
        yield answer.detach().to("cpu", torch.float64)
    elif isinstance(answer, list | tuple) and not all(isinstance(entry, Number) for entry in answer):
        for entry in answer:
            yield from leaves(entry)
    else:
        try:
            yield torch.tensor([] if answer is None else answer, dtype=torch.float64)
        except OverflowError:  # an int beyond all floats
            yield torch.tensor(torch.inf, dtype=torch.float64)


def as_asked(expected: Any, got: Any) -> Any:
    """An answer of the right kind, its whole numbers of the expected width."""
    if isinstance(expected, Tensor) and isinstance(got, Tensor):
        return got if got.is_floating_point() else got.to(expected.dtype)
    if isinstance(expected, tuple) and type(got) in (list, tuple):
        return type(got)(map(as_asked, expected, got))
    return got


def unlike(expected: Any, got: Any, *, axes: str = "") -> str:
    """In which way ``got`` cannot be an answer at all, whatever its values; empty if it can.

    Args:
        axes: what the axes of the expected tensor are, for whoever returns another shape.
    """
    if got is None and expected is not None:
        return "Your function returns nothing. Is a `return` missing?"
    if got is ... or got is NotImplemented:
        return "Your function still returns its placeholder."
    if isinstance(expected, Tensor):
        return _unlike_tensor(expected, got, axes)
    if isinstance(expected, tuple):
        return _unlike_tuple(expected, got)
    if isinstance(expected, list):
        return _unlike_list(got)
    return _unlike_number(expected, got)


def new_nan(expected: Any, got: Any) -> str:
    """What to say of NaN where none is due; empty if there is none. Both are of one kind."""
    if not any(leaf.isnan().any() for leaf in leaves(got)) or any(leaf.isnan().any() for leaf in leaves(expected)):
        return ""
    told = "Your answer holds NaN (not a number). It comes from 0/0, ∞/∞ or ∞ − ∞"
    if not isinstance(expected, Tensor):
        return f"{told}."
    return (
        f"{told}, from the mean of nothing, and from a softmax over nothing but −∞. Did an `exp` run over? Subtract "
        "the largest score first, or leave it to `softmax`."
    )


def habit(calls: Sequence[tuple[Any, Any]]) -> str:
    """What explains all of the (expected, got) pairs, in whatever exercise; empty if nothing does."""
    pairs = [(_numbers(expected), _numbers(got)) for expected, got in calls]
    if any(a.shape != b.shape for a, b in pairs) or not any(a.numel() for a, _ in pairs):
        return ""
    if all(not b.any() for _, b in pairs) and any(a.any() for a, _ in pairs):
        return "Whatever it is given, your answer is all zeros: the shape is there and nothing has been computed."
    if len(calls) > 1 and all(close(b, calls[0][1]) for _, b in calls):
        return "Your function gives the same answer whatever it is given. It should compute it from its arguments."
    return _factor(pairs) or (NEARLY if all(_nearly(a, b) for a, b in pairs) else "")


NEARLY = (
    "Your answers are nearly right. Is something computed in half precision, or rounded, on the way? Or is a small "
    "number added somewhere, or multiplied with?"
)


def _nearly(a: Tensor, b: Tensor) -> bool:
    """Whether each number is within five per cent, and not a whole one: a place in a row is right or wrong."""
    whole = torch.equal(a, a.round())
    return close(a, b) if whole else torch.allclose(a, b, rtol=0.05, atol=0.005 * _scale(a), equal_nan=True)


def describe(value: Any, digits: int = 3) -> str:
    """An argument or an answer as a reader would write it down, with so many significant figures."""
    if isinstance(value, Tensor):
        return _tensor_in_words(value, digits)
    if isinstance(value, float):
        return f"{value:.1f}" if value.is_integer() else f"{value:.{max(digits, 6)}g}"
    if hasattr(value, "_fields"):  # a named tuple
        parts = zip(value._fields, value, strict=True)
        return "\n".join(f"{name.replace('_', ' ')}: {describe(entry, digits)}" for name, entry in parts)
    if isinstance(value, list | tuple):
        told = [describe(entry, digits) for entry in value]
        together = ", ".join(told)
        inside = ",\n".join(told).replace("\n", "\n ") if "\n" in together else together
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return repr(value)


def describe_both(expected: Any, got: Any) -> tuple[str, str]:
    """Two different answers, with as many figures as it takes to see a difference."""
    for digits in (3, 6, 12):
        told = describe(expected, digits), describe(got, digits)
        if told[0] != told[1]:
            return told
    return told


def _near(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * _scale(a), equal_nan=True)


def _scale(a: Tensor) -> float:
    """The largest of the numbers, infinite ones aside."""
    return max(a[a.isfinite()].abs().max().item(), 1e-12) if a.isfinite().any() else 1.0


def _unlike_tensor(expected: Tensor, got: Any, axes: str) -> str:
    if not isinstance(got, Tensor):
        return f"The answer is a tensor of shape {tuple(expected.shape)}; your function returns {kind_of(got)}."
    if got.layout != torch.strided or got.is_complex():
        strange = got.dtype if got.is_complex() else str(got.layout).removeprefix("torch.")
        return f"The answer is an ordinary tensor of {expected.dtype}; yours is {strange}."
    if got.device != expected.device:
        return (
            f"The inputs are on {expected.device} and your answer is on {got.device}: make new tensors beside "
            "the inputs (`device=…`, `torch.zeros_like`)."
        )
    if got.shape != expected.shape:
        told = f"The answer has the shape {tuple(expected.shape)}; yours has {tuple(got.shape)}."
        return f"{told} The axes are {axes}." if axes else told
    if expected.is_floating_point() and got.dtype != expected.dtype:
        return f"The inputs are {expected.dtype} and your answer is {got.dtype}: keep the dtype of the inputs."
    if (
        not expected.is_floating_point()
        and got.dtype != expected.dtype
        and (got.is_floating_point() or expected.dtype == torch.bool or got.dtype == torch.bool)
    ):
        return f"The answer is a tensor of {expected.dtype}; yours is {got.dtype}."
    return ""


def _unlike_tuple(expected: tuple[Any, ...], got: Any) -> str:
    if not isinstance(got, tuple | list) or len(got) != len(expected):
        count = f" of {len(got)}" if isinstance(got, tuple | list) else ""
        return (
            f"The answer is {len(expected)} things, returned as a tuple; your function returns {kind_of(got)}{count}."
        )
    for number, (wanted, one) in enumerate(zip(expected, got, strict=True), start=1):
        if one is None and wanted is not None:
            return f"Number {number} of the {len(expected)} things that you return is None."
        if problem := unlike(wanted, one):
            return f"Number {number} of the {len(expected)} things that you return: {problem}"
    return ""


def _unlike_list(got: Any) -> str:
    if isinstance(got, Tensor) and got.dim() == 1 and not got.is_floating_point():
        return ""
    if not isinstance(got, list | tuple):
        return f"The answer is a list; your function returns {kind_of(got)}."
    strange = next((entry for entry in got if not _is_number(entry)), None)
    return f"The answer is a list of numbers; yours holds {kind_of(strange)}." if strange is not None else ""


def _unlike_number(expected: Any, got: Any) -> str:
    if expected is None:
        return "" if got is None or _is_number(got) else f"The answer is a number or None; got {kind_of(got)}."
    if not _is_number(got):
        return f"The answer is one number; your function returns {kind_of(got)}."
    return ""


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.dtype != torch.bool
    return isinstance(value, Number) and not isinstance(value, bool | complex)


def kind_of(value: Any) -> str:
    """What a value is, with its article: "an int", "a tensor of shape (2, 3)"."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _numbers(answer: Any) -> Tensor:
    return torch.cat([leaf.flatten() for leaf in leaves(answer)])


def _factor(pairs: Sequence[tuple[Tensor, Tensor]]) -> str:
    if not all(x.isfinite().all() for pair in pairs for x in pair):
        return ""
    under = sum(float(a @ a) for a, _ in pairs)
    factor = sum(float(a @ b) for a, b in pairs) / under if under else 0.0
    if not factor or abs(factor - 1) < 2 * TOLERANCE or not all(_near(factor * a, b) for a, b in pairs):
        return ""
    if abs(factor + 1) < TOLERANCE:
        return "Every number has the wrong sign."
    return f"Every number is {factor:.4g} times what it should be: a factor is missing, or there is one too many."


def _tensor_in_words(value: Tensor, digits: int) -> str:
    if value.numel() > _PRINTED or not value.numel():
        return f"a tensor of shape {tuple(value.shape)}"
    value = value.detach().cpu()
    return _rows(value.tolist(), digits + _shared_digits(value))


def _shared_digits(value: Tensor) -> int:
    """How many leading figures numbers close to each other have in common."""
    finite = value[value.isfinite()].double()
    spread = float(finite.max() - finite.min()) if finite.numel() else 0.0
    return max(0, math.floor(math.log10(float(finite.abs().max()) / spread))) if spread else 0


def _number(value: float, digits: int) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"


def _rows(values: Any, digits: int, depth: int = 0) -> str:
    """Nested lists, each entry of the first two axes but the last on a line of its own."""
    if not isinstance(values, list):
        return _number(values, digits) if isinstance(values, float) else str(values)
    inner = [_rows(entry, digits, depth + 1) for entry in values]
    between = ",\n" + " " * (depth + 1) if depth < 2 and values and isinstance(values[0], list) else ", "
    return "[" + between.join(inner) + "]"
