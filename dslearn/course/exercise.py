"""What an exercise is made of: what is drawn, what is right, which behaviours make it so, which mistakes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dslearn._extras import require
from dslearn.course.answers import close
from dslearn.course.guard import copy_of

require("hypothesis", "course")

from hypothesis.strategies import SearchStrategy  # noqa: E402 - only after the extra is known to be there

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """One call of an answer: its arguments by name, what is right, and what came back."""

    arguments: dict[str, Any]
    expected: Any
    got: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


@dataclass(frozen=True)
class Behaviour:
    """One thing that a right answer does.

    Attributes:
        says: it in a few words, "never reads a later token".
        holds: whether one call shows it.
        because: the likely misconception, for a failure that no slip explains.
    """

    says: str
    holds: Callable[[Call], bool]
    because: str


@dataclass(frozen=True)
class Slip:
    """A known mistake.

    Attributes:
        explains: whether it explains what one call returned, right or wrong. It must explain all that were seen.
            :func:`gives` makes it of a function that makes the mistake.
        message: what its author should hear.
    """

    explains: Callable[[Call], bool]
    message: str


def gives(wrong: Callable[..., Any]) -> Callable[[Call], bool]:
    """Whether a call got what ``wrong`` gives for the same arguments; whatever it raises explains nothing.

    Where an exercise has an ``ask`` of its own, ``wrong`` returns what that would.
    """

    def explains(call: Call) -> bool:
        try:
            return close(wrong(*copy_of(list(call.arguments.values()))), call.got)
        except Exception:
            return False

    return explains


@dataclass(frozen=True, eq=False)
class Exercise:
    """What one exercise checks.

    Attributes:
        id, title, minutes, difficulty: as the notebook gives them; difficulty from 1 to 3.
        function: the name that the notebook gives the answer.
        right: a correct answer, written for being sure of rather than fast.
        draw: keys, tuples of plain values; hypothesis makes them small when one fails.
        build: a key → the arguments, tensors by seed.
        shown: the key of the example in the notebook.
        behaviours: in the order in which a learner would think of them. The last one is being right.
        done: what there is to know once it is right.
        slips: known mistakes, the most likely first.
        edges: keys that are tried in any case, after those that are drawn: large texts, extreme numbers.
        ask: what is asked of an answer, ``ask(answer, *arguments)``; to call it, unless told.
        axes: what the axes of the answer are, where it is a tensor: "(tokens, top_k)".
        judges_nan: whether NaN in an answer is left to the behaviours; else it is refused before them.
    """

    id: str
    title: str
    minutes: int
    difficulty: int
    function: str
    right: Callable[..., Any]
    draw: SearchStrategy[Key]
    build: Callable[..., tuple[Any, ...]]
    shown: Key
    behaviours: tuple[Behaviour, ...]
    done: str
    slips: tuple[Slip, ...] = ()
    edges: tuple[Key, ...] = ()
    ask: Callable[..., Any] = lambda answer, *arguments: answer(*arguments)
    axes: str = ""
    judges_nan: bool = False
