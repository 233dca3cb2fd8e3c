"""Answers that each check must accept or refuse, one module an exercise.

A module begins with ``ANSWERS = Answers("01.3")`` and decorates functions. Every refusal names the words that its
author must read: a check that says no for another reason has failed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from dslearn.course.exercises import MODULES

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Wrong:
    """A plausible wrong answer.

    Attributes:
        kind: the sort of mistake in two or three words, "off by one".
        says: words that the feedback must hold.
        first: whether it was written before the check that it is to fail.
    """

    answer: Answer
    kind: str
    says: str
    first: bool

    @property
    def name(self) -> str:
        return self.answer.__name__


@dataclass
class Answers:
    """Right and wrong answers to one exercise."""

    exercise: str
    right: list[Answer] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)

    def accepted(self, answer: Answer) -> Answer:
        """Decorate a correct answer that is written differently."""
        self.right.append(answer)
        return answer

    def refused(self, kind: str, says: str, *, first: bool = False) -> Callable[[Answer], Answer]:
        """Decorate a wrong answer. Its docstring, if any, tells the mistake in the book's table."""

        def keep(answer: Answer) -> Answer:
            self.wrong.append(Wrong(answer, kind, says, first))
            return answer

        return keep


def all_answers() -> list[Answers]:
    """The answers to every checked exercise, in order."""
    return [import_module(f"tests.course.rejections.{name}").ANSWERS for name in MODULES.values()]
