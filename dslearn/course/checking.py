"""Checks of exercises: named behaviours, tried in order on drawn inputs, and what a wrong answer gives away.

An exercise's own module (in :mod:`dslearn.course.exercises`) says what is drawn, what is right and which behaviours
make it right. This module calls the answer, finds the smallest call that breaks a behaviour, and looks for the mistake
that explains *all* of the answer's results.
"""

from __future__ import annotations

import inspect
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dslearn._extras import require
from dslearn.course.answers import as_asked, close, describe, describe_both, habit, kind_of, new_nan, unlike
from dslearn.course.exercise import Behaviour, Call, Exercise, Key, Slip
from dslearn.course.feedback import Feedback
from dslearn.course.guard import Guard, Trouble, copy_of, first_line

require("hypothesis", "course")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402 - only after the extra is known to be there
from hypothesis.configuration import set_hypothesis_home_dir  # noqa: E402

# It keeps a cache, by default in a folder beside the reader's notebook.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "dslearn-hypothesis"))

EXAMPLES = 100
SECONDS = 3.0  # spent on new calls; a quick answer needs a fraction of one
FEWEST = 50  # calls of a slow answer: with twenty, some mistakes were missed

_Test = tuple[str, Callable[["Call | Trouble"], bool], str]  # what holds, whether it does, and why it may not

_PRINTED = 500  # characters of what an answer printed that are shown back
_RUNS = "gives an answer of the right kind"


@dataclass(frozen=True)
class Shown:
    """A call and what it returned, to be looked at."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass
class _Trial:
    """All calls of one answer so far; the same key is never called twice."""

    exercise: Exercise
    answer: Callable[..., Any]
    guard: Guard = field(default_factory=Guard)
    calls: dict[Key, Call | Trouble] = field(default_factory=dict)
    printed: dict[Key, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        return self.began + SECONDS if len(self.calls) >= FEWEST else math.inf

    def call(self, key: Key) -> Call | Trouble:
        if key not in self.calls:
            try:
                self.calls[key] = self.fresh(key)
            except Trouble as trouble:
                self.calls[key] = trouble
            self.printed[key] = self.guard.printed[:_PRINTED]
        return self.calls[key]

    def fresh(self, key: Key) -> Call:
        arguments, expected = _case(self.exercise, key)
        given_ = list(arguments.values())
        got = self.guard(partial(self.exercise.ask, self.answer), given_)
        problem = unlike(expected, got, axes=self.exercise.axes)
        if not problem and not self.exercise.judges_nan:
            problem = new_nan(expected, got)
        if problem:
            raise Trouble(problem)
        return Call(arguments, expected, as_asked(expected, got))

    def search(self, broken: Callable[[Call | Trouble], bool]) -> Key | None:
        """The smallest drawn key whose call is broken, else the first such edge.

        Known keys are tried again, new ones are drawn while time lasts, and until there are ``FEWEST``.
        """
        found: list[Key] = []

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            report_multiple_bugs=False,
        )
        @given(self.exercise.draw)
        def attempt(key: Key) -> None:
            if (key in self.calls or time.monotonic() < self.deadline) and broken(self.call(key)):
                found.append(key)
                raise _BrokenError

        try:
            attempt()
        except _BrokenError:
            return found[-1]
        return next((key for key in self.exercise.edges if broken(self.call(key))), None)


class _BrokenError(Exception):
    """A call that breaks the behaviour looked for."""


def judge(exercise: Exercise, answer: object) -> Feedback:
    """Say whether ``answer`` does what the exercise asks, and if not, what it does instead."""
    try:
        return _judge(exercise, answer)
    except Exception as error:  # what comes back may be anything, and a learner never sees a traceback of ours
        told = f"The check can make nothing of your answer ({type(error).__name__}: {first_line(error)}). "
        told += "If it is right, tell us."
        return _outcome(exercise, Trouble(told))


def _judge(exercise: Exercise, answer: object) -> Feedback:
    try:
        trial = _Trial(exercise, _callable(exercise, answer))
    except Trouble as trouble:
        return _outcome(exercise, trouble)
    final = exercise.shown if _is_final(trial.call(exercise.shown)) else trial.search(_is_final)
    if final is not None:
        return _failure(trial, final)
    tests = _tests(exercise)
    while (place := _first_broken(trial, tests)) is not None:
        says, holds, because = tests[place]
        smallest = trial.search(lambda call, holds=holds: not holds(call))
        if _first_broken(trial, tests) == place:  # else the search has met a call that breaks an earlier one
            held = tuple(says for says, _, _ in tests[:place])
            key = smallest or next(key for key, call in trial.calls.items() if not holds(call))
            return _failure(trial, key, held=held, failed=says, because=because)
    return Feedback(exercise.id, exercise.title, "done", exercise.done, held=tuple(says for says, _, _ in tests))


def _first_broken(trial: _Trial, tests: list[_Test]) -> int | None:
    for place, (_, holds, _) in enumerate(tests):
        if not all(map(holds, trial.calls.values())):
            return place
    return None


def attempt(exercise: Exercise, answer: object) -> Feedback | Shown:
    """What ``answer`` returns for the shown example, unjudged; feedback, if it returns nothing that can be shown."""
    guard = Guard()
    try:
        got = guard(partial(exercise.ask, _callable(exercise, answer)), exercise.build(*exercise.shown))
    except Trouble as trouble:
        return _outcome(exercise, trouble)
    try:
        told = describe(got)
    except Exception as error:  # a tensor without numbers, an object that cannot be printed
        told = f"{kind_of(got)}, which cannot be shown ({type(error).__name__}: {first_line(error)})"
    printed = f"{guard.printed.rstrip()}\n" if guard.printed else ""
    return Shown(f"{printed}{_call_in_words(exercise, exercise.shown)}\nreturns\n{told}")


def _tests(exercise: Exercise) -> list[_Test]:
    """The behaviours, after the first of all: that there is something to judge."""

    def of(behaviour: Behaviour) -> Callable[[Call | Trouble], bool]:
        return lambda call: isinstance(call, Call) and behaviour.holds(call)

    own = [(behaviour.says, of(behaviour), behaviour.because) for behaviour in exercise.behaviours]
    return [(_RUNS, lambda call: isinstance(call, Call), ""), *own]


def _failure(trial: _Trial, key: Key, *, held: tuple[str, ...] = (), failed: str = "", because: str = "") -> Feedback:
    exercise, call = trial.exercise, trial.call(key)
    shown: dict[str, Any] = {
        "held": held,
        "failed": failed,
        "example": _call_in_words(exercise, key),
        "arguments": _arguments(exercise, key),
        "printed": trial.printed[key],
    }
    if isinstance(call, Trouble):
        return _outcome(exercise, call, **({} if call.state == "not started" else shown))
    shown["expected"], shown["got"] = describe_both(call.expected, call.got)
    return _outcome(exercise, Trouble(_explanation(trial, key) or because), **shown)


def _explanation(trial: _Trial, key: Key) -> str:
    """The mistake that would give all the results that were seen."""
    calls = [call for call in trial.calls.values() if isinstance(call, Call)]
    for slip in trial.exercise.slips:
        if all(_explains(slip, call) for call in calls):
            return slip.message
    if told := habit([(call.expected, call.got) for call in calls]):
        return told
    return "" if _is_repeatable(trial, key) else "Asked twice, your function gives two answers. Is there chance in it?"


def _explains(slip: Slip, call: Call) -> bool:
    """Slips are looked for in answers of which nothing is known, places out of range among them."""
    try:
        return bool(slip.explains(call))
    except Exception:
        return False


def _is_repeatable(trial: _Trial, key: Key) -> bool:
    first = trial.call(key)
    try:
        return isinstance(first, Call) and close(first.got, trial.fresh(key).got)
    except Trouble:
        return False


def _is_final(call: Call | Trouble) -> bool:
    return isinstance(call, Trouble) and call.final


def _callable(exercise: Exercise, answer: object) -> Callable[..., Any]:
    if answer is None or answer is ...:
        raise Trouble(f"Write `{exercise.function}`, then run its cell and the check.", state="not started")
    if isinstance(answer, type):
        try:
            answer = answer()
        except Exception as error:
            raise Trouble(
                f"`{answer.__name__}` is a class that cannot be made without arguments ({error}): hand over a finished "
                "module, or a function."
            ) from error
    if not callable(answer):
        raise Trouble(
            f'Hand over the function itself, without calling it: `check("{exercise.id}", {exercise.function})`; got '
            f"{kind_of(answer)}."
        )
    return lambda *arguments: _kept(answer(*arguments))


def _kept(returned: Any) -> Any:
    """Copies of the tensors, since a function may return the same memory each time."""
    if isinstance(returned, Tensor):
        return returned.clone()
    return type(returned)(map(_kept, returned)) if type(returned) in (list, tuple) else returned


def _outcome(exercise: Exercise, trouble: Trouble, **shown: Any) -> Feedback:
    return Feedback(exercise.id, exercise.title, trouble.state, str(trouble), **shown)


def _call_in_words(exercise: Exercise, key: Key) -> str:
    told = [f"{name}={describe(value)}" for name, value in _arguments(exercise, key).items()]
    if not any("\n" in one for one in told):
        return f"{exercise.function}({', '.join(told)})"
    lines = (f"    {one},".replace("\n", "\n" + " " * (5 + one.index("="))) for one in told)
    return "\n".join([f"{exercise.function}(", *lines, ")"])


@lru_cache(maxsize=2000)
def _case(exercise: Exercise, key: Key) -> tuple[dict[str, Any], Any]:
    """The arguments of a call, which nobody changes, and what is right for them: the same at every check."""
    arguments = _arguments(exercise, key)
    return arguments, exercise.ask(exercise.right, *copy_of(list(arguments.values())))


def _arguments(exercise: Exercise, key: Key) -> dict[str, Any]:
    names = inspect.signature(exercise.right).parameters
    return dict(zip(names, exercise.build(*key), strict=True))
