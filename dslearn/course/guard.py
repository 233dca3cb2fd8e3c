"""Calls to code that somebody is still writing: it may raise, hang, flood the screen or change what it was given."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import io
import linecache
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import torch
from torch import Tensor

from dslearn.course.feedback import State

SECONDS = 10.0  # on a slow computer a right answer, a loop in a loop, takes more than half of it
CHARACTERS = 20_000
CELL_CHARACTERS = 1_000_000
STUB = "your code here"  # what a cell that is still to be written raises

_GRACE = 1.0  # seconds that a stopped call gets to end
_OWN_FILES = ("/dslearn/course/", "/torch/", "/einops/", "/threading.py")


class Trouble(Exception):
    """What kept an answer from being judged, as a sentence to its author.

    Attributes:
        state: ``"not started"`` for unfinished code, else ``"not yet"``.
        final: whether calling once more makes no sense.
    """

    def __init__(self, message: str, *, state: State = "not yet", final: bool = False) -> None:
        super().__init__(message)
        self.state: State = state
        self.final = final or state == "not started"


class _Stop(BaseException):
    """Raised inside a call that has had its time, or has printed too much."""


class _Printed(io.TextIOBase):
    """Keeps what is printed, and stops who prints too much."""

    def __init__(self, limit: int) -> None:
        self.limit, self.text = limit, ""
        self.flooded = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.text) + len(text) > self.limit:
            self.flooded = True
            raise _Stop
        self.text += text
        return len(text)


class Guard:
    """Calls a learner's function in a thread of its own, on copies of the arguments.

    The time limit works on every system for Python code: an exception is raised inside the thread. A single long
    operation of compiled code (a huge matrix product, ``time.sleep``) cannot be interrupted; it is left behind, and the
    message says so.

    Args:
        seconds: what one call may take.
        characters: what one call may print.

    Attributes:
        printed: what the last call printed.
    """

    def __init__(self, *, seconds: int | float = SECONDS, characters: int = CHARACTERS) -> None:
        self.seconds, self.characters = seconds, characters
        self.printed = ""

    def __call__(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Return ``function(*arguments)``.

        Raises:
            Trouble: it is unfinished, raised, took too long, printed too much or changed an argument.
        """
        given = copy_of(arguments)
        screen = _Printed(self.characters)
        try:
            with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                result, error = self._in_time(lambda: function(*given))
        finally:
            self.printed = screen.text
        if screen.flooded:
            raise Trouble(
                f"Your function printed more than {self.characters:,} characters and was stopped. Take the print out, "
                "or print once instead of in the loop."
            )
        if error is not None:
            raise _told(error)
        _require_unchanged(arguments, given)
        return result

    def _in_time(self, call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                outcome.put((call(), None))
            except BaseException as error:  # also SystemExit: the reader is told, the kernel lives on
                outcome.put((None, error))

        thread = threading.Thread(target=run, daemon=True, name="answer")
        thread.start()
        try:
            return outcome.get(timeout=self.seconds)
        except queue.Empty:
            ended = _stop(thread)
        behind = "" if ended else " It is busy in compiled code and goes on unseen: restart the kernel if it slows you."
        raise Trouble(
            f"Your function had not returned after {self.seconds:g} seconds, so it was left.{behind} Does a loop never "
            "end? Does a `while` change what it tests? Or does a loop run within another, where one would do?",
            final=True,
        )


def copy_of(arguments: Sequence[Any]) -> list[Any]:
    """Copies of the arguments, tensors with their ``requires_grad``."""
    return [
        argument.detach().clone().requires_grad_(argument.requires_grad)
        if isinstance(argument, Tensor)
        else copy.deepcopy(argument)
        for argument in arguments
    ]


def _stop(thread: threading.Thread) -> bool:
    """Raise inside the thread until it ends; whether it did."""
    for _ in range(10):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
        thread.join(_GRACE / 10)
        if not thread.is_alive():
            return True
    return False


def _told(error: BaseException) -> Trouble:
    """The sentence for what a function raised, with the line of the reader's own that raised it."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, NotImplementedError) and _is_own(error):
        return Trouble(
            "Write your code in place of `raise NotImplementedError`, then run its cell and the check.",
            state="not started",
        )
    what = f"Your function raised {type(error).__name__}"
    what += f": {line}" if (line := first_line(error)) else ""
    if isinstance(error, RecursionError):
        what += ". It calls itself without an end"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        what = "Your function asks Python to end (exit or an interrupt). Return a value instead"
    return Trouble(f"{what}{where(error)}.")


def _is_own(error: NotImplementedError) -> bool:
    """Whether it stands where code is still to be written; PyTorch raises it, too, for what it lacks."""
    return str(error) in ("", STUB) or "raise NotImplementedError" in where(error)


def where(error: BaseException) -> str:
    """The reader's own line at which something was raised, as the end of a sentence; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename.replace("\\", "/") for part in _OWN_FILES)]
    if not own:
        return ""
    line = (own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno or 0)).strip()
    return f", at the line `{line}`" if line else ""


def first_line(error: BaseException) -> str:
    """What an error says, in its first line; empty if it says nothing."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception of the reader's own, whose words cannot be had
        return ""
    line = lines[0].rstrip(".") if lines else ""
    return line if len(line) <= 200 else line[:200] + "…"


def _require_unchanged(before: Sequence[Any], after: Sequence[Any]) -> None:
    for number, (original, given) in enumerate(zip(before, after, strict=True), start=1):
        if not same(original, given):
            raise Trouble(
                f"Your function changes its {_ordinal(number)} argument, which is the caller's. `x /= …`, `x[...] = …` "
                "and `x.masked_fill_(…)` write into a tensor, `pop`, `sort` and `reverse` into a list: work on a copy."
            )


def same(a: Any, b: Any) -> bool:
    """Whether two arguments are equal, tensors bit by bit, NaN included."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")


def begin(folder: str, *, characters: int = CELL_CHARACTERS) -> None:
    """In a kernel that runs a learner's cells: stand in their folder, and let no cell flood what it prints.

    Raises:
        OSError: the folder is gone.
    """
    os.chdir(folder)
    sys.stdout, sys.stderr = (_Bounded(stream, characters) for stream in (sys.stdout, sys.stderr))


class _Bounded(io.TextIOBase):
    """A stream that takes so much and no more."""

    def __init__(self, stream: TextIO, limit: int) -> None:
        self.stream, self.left = stream, limit

    def write(self, text: str) -> int:
        self.left -= len(text)
        if self.left < 0:
            raise RuntimeError("more is printed here than anybody can read: it was stopped")
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()
