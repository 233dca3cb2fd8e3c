"""What a check says about code that is unfinished, breaks, hangs, floods, cheats or answers something else."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from dslearn.course import check, checking, show
from dslearn.course.answers import describe
from dslearn.course.checking import FEWEST, attempt, judge
from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives
from dslearn.course.ledger import LEDGER_VARIABLE


def double(x: Tensor, times: int) -> Tensor:
    return 2 * times * x


def build(size: int, times: int, seed: int) -> tuple[Tensor, int]:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)), times


def is_right(call: Call) -> bool:
    return torch.allclose(call.got, call.expected)


EXERCISE = Exercise(
    id="99.1",
    title="Double it",
    minutes=1,
    difficulty=1,
    function="double",
    right=double,
    draw=st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(0, 99)),
    build=build,
    shown=(3, 2, 0),
    behaviours=(
        Behaviour("keeps the signs", lambda call: torch.equal(call.got.sign(), call.expected.sign()), "signs"),
        Behaviour("doubles", is_right, "It should be twice as much."),
    ),
    done="Doubled.",
    slips=(Slip(gives(lambda x, times: 2 * x), "You leave out `times`."),),
)


def judged(answer: object) -> str:
    feedback = judge(EXERCISE, answer)
    assert feedback.state == "not yet"
    assert "Traceback" not in repr(feedback)
    return repr(feedback)


class Module(nn.Module):
    def forward(self, x, times):
        return x * times + x * times


@pytest.mark.parametrize("answer", [double, lambda x, times: x * times * 2.0, Module(), Module])
def test_functions_modules_and_classes_are_judged_by_what_they_do(answer) -> None:
    assert judge(EXERCISE, answer).passed


@pytest.mark.parametrize("answer", [None, ..., lambda x, times: _unfinished()])
def test_unfinished_is_not_started(answer) -> None:
    assert judge(EXERCISE, answer).state == "not started"


def _unfinished():
    raise NotImplementedError("your code here")


def test_the_smallest_failing_example_is_shown_with_what_is_expected_and_what_came() -> None:
    feedback = judge(EXERCISE, lambda x, times: 2 * times * x if len(x) < 4 else x * 3 * times)
    assert feedback.held == ("gives an answer of the right kind", "keeps the signs")
    assert feedback.failed == "doubles"
    assert feedback.example.startswith("double(x=[")
    assert feedback.example.count(",") == 4  # four numbers, times=1
    assert "times=1)" in feedback.example
    assert feedback.expected.count(",") == feedback.got.count(",") == 3


def test_a_known_mistake_is_told_only_if_it_explains_everything() -> None:
    assert "You leave out `times`" in judged(lambda x, times: 2 * x)
    assert "You leave out `times`" not in judged(lambda x, times: 2 * x if times < 3 else 0 * x)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, times: 0 * x, "all zeros"),
        (lambda x, times: 6 * times * x, "3 times what it should be"),
        (lambda x, times: -2 * times * x, "wrong sign"),
        (lambda x, times: (2 * times * x).to(torch.bfloat16).float() * 1.0001, "precision"),
        (lambda x, times: None, "Is a `return` missing?"),
        (lambda x, times: ..., "placeholder"),
        (lambda x, times: (2 * times * x).tolist(), "returns a list"),
        (lambda x, times: (2 * times * x).double(), "torch.float64"),
        (lambda x, times: (2 * times * x).to("meta"), "on meta"),
        (lambda x, times: (2 * times * x)[None], "(1, 1)"),
        (lambda x, times: (2 * times * x).clone().fill_(torch.nan), "NaN"),
        (lambda x, times: x / "a", "raised TypeError: unsupported operand type(s) for /: 'Tensor' and 'str'"),
        (lambda x: x, "raised TypeError"),
        (lambda x, times: exit(), "asks Python to end"),
        (lambda x, times: x.mul_(2 * times), "changes its first argument"),
        (lambda x, times: 2 * times * x + 0.1 * torch.rand(len(x)), "two answers"),
        (torch.zeros(3), 'check("99.1", double)'),
        (lambda x, times: x.long().softmax(0), "raised NotImplementedError"),
        (nn.Module(), "raised NotImplementedError"),
        (lambda x, times: _raises(ValueError("  ")), "raised ValueError, at the line"),
        (lambda x, times: _raises(Unspeakable()), "raised Unspeakable, at the line"),
        (lambda x, times: (2 * times * x).to_sparse(), "yours is sparse_coo"),
        (lambda x, times: (2 * times * x).to(torch.complex64), "yours is torch.complex64"),
        (lambda x, times: 2 * times * x * 1.02, "1.02 times"),
        (lambda x, times: 2 * times * x + x.abs() * 0.01, "a small number"),
    ],
)
def test_what_is_wrong_is_said_kindly(answer, says: str) -> None:
    assert says in judged(answer)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def _raises(error: Exception):
    raise error


def test_the_same_memory_may_be_returned_each_time() -> None:
    buffers: dict[int, torch.Tensor] = {}

    def answer(x, times):
        return torch.mul(x, 2 * times, out=buffers.setdefault(len(x), torch.empty(len(x))))

    assert judge(EXERCISE, answer).passed


@pytest.mark.parametrize(("kind", "told"), [("meta", "cannot be shown"), ("sparse", "cannot be shown")])
def test_what_cannot_be_shown_is_said_to_be_so(kind: str, told: str) -> None:
    made = {"meta": lambda x, times: x.to("meta"), "sparse": lambda x, times: x.to_sparse()}
    assert told in repr(attempt(EXERCISE, made[kind]))


def test_the_line_that_raised_is_the_learners_own() -> None:
    def answer(x, times):
        return x.view(-1, 1000)

    assert "at the line `return x.view(-1, 1000)`" in judged(answer)


def test_what_an_answer_prints_is_shown_back_and_a_flood_is_stopped(capsys) -> None:
    def talks(x, times):
        print("I was here")
        return x

    def floods(x, times):
        while True:
            print("x" * 1000)

    assert "on the screen: I was here" in judged(talks)
    assert "more than 20,000 characters" in judged(floods)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize("catches", [Exception, TimeoutError])
def test_a_loop_without_an_end_is_left_and_does_not_go_on(catches) -> None:
    beats = []

    def answer(x, times):
        print("before the loop")
        while True:
            try:
                time.sleep(0.01)
                beats.append(1)
            except catches:
                continue

    started = time.monotonic()
    told = judged(answer)
    assert "had not returned after 10 seconds" in told
    assert "on the screen: before the loop" in told
    assert time.monotonic() - started < 14
    count = len(beats)
    time.sleep(0.1)
    assert len(beats) == count
    assert not [thread for thread in threading.enumerate() if thread.name == "answer"]


SLEEPS = """
import time
from dslearn.course.guard import Guard, Trouble
started = time.monotonic()
try:
    Guard(seconds=1)(lambda: time.sleep(8), [])
except Trouble as trouble:
    print(trouble)
assert time.monotonic() - started < 6
"""


def test_compiled_code_that_cannot_be_stopped_is_left_behind_and_said_so() -> None:
    # In a process of its own: where coverage traces, a thread that sleeps holds up the one that waits for it.
    done = subprocess.run([sys.executable, "-c", SLEEPS], capture_output=True, text=True, check=True, timeout=60)
    assert "goes on unseen" in done.stdout


def test_an_answer_is_asked_fewer_times_when_it_is_slow_but_often_enough(monkeypatch) -> None:
    asked: list[float] = []

    def answer(x, times):
        asked.append(times)
        return 2 * times * x

    assert judge(EXERCISE, answer).passed
    quick = len(asked)
    asked.clear()
    monkeypatch.setattr(checking, "SECONDS", 0.0)
    assert judge(EXERCISE, answer).passed
    assert FEWEST <= len(asked) <= FEWEST + 1 + len(EXERCISE.edges) < quick


def test_every_check_is_stored_and_done_stays_done(tmp_path, monkeypatch) -> None:
    ledger = tmp_path / "claims.json"
    monkeypatch.setenv(LEDGER_VARIABLE, str(ledger))

    def row() -> dict:
        return json.loads(ledger.read_text())["exercises"]["01.3"]

    check("01.3", None)
    assert row()["state"] == "not started"
    assert row()["tries"] == 0
    check("01.3", lambda scores, top_k, block_size: torch.zeros(len(scores), top_k, dtype=torch.long))
    assert row()["state"] == "not yet"
    assert row()["failed"] == "puts each token's own block first"
    from dslearn.course.exercises import load

    check("01.3", load("01.3").right)
    check("01.3", lambda scores, top_k, block_size: scores)
    assert row()["state"] == "not yet"
    assert row()["tries"] == 3
    assert row()["done"]


def test_progress_that_cannot_be_stored_costs_no_feedback(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "file" / "claims.json"))
    feedback = check("01.3", None)
    assert feedback.state == "not started"
    assert "could not be stored" in repr(feedback)


class Strange:
    """An answer's result that cannot even be compared."""

    def __ne__(self, other):
        raise RuntimeError("not me")

    __eq__ = __ne__
    __hash__ = None


@pytest.mark.parametrize("result", [10**400, Strange(), object(), {}, float("inf")])
def test_whatever_comes_back_is_answered_with_words(result, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "claims.json"))
    for number in ("00.1", "01.1", "01.3", "01.5"):
        assert check(number, lambda *arguments: result).state == "not yet"


def test_edges_are_tried_in_any_case() -> None:
    def wrong_for_long_texts(x, times):
        return double(x, times) if len(x) < 50 else x

    assert judge(EXERCISE, wrong_for_long_texts).passed
    with_edge = dataclasses.replace(EXERCISE, edges=((60, 3, 0),))
    feedback = judge(with_edge, wrong_for_long_texts)
    assert feedback.failed == "doubles"
    assert len(feedback.arguments["x"]) == 60
    assert judge(with_edge, double).passed


def test_the_example_is_handed_over_and_shows_what_failed() -> None:
    feedback = judge(EXERCISE, lambda x, times: 2 * x)
    assert not torch.allclose(2 * feedback.arguments["x"], double(**feedback.arguments))
    feedback.arguments["x"].zero_()
    again = judge(EXERCISE, lambda x, times: 2 * x)
    assert again.arguments["x"].any(), "what a reader does to an example changes no other"


def test_another_shape_is_told_the_axes() -> None:
    with_axes = dataclasses.replace(EXERCISE, axes="(size,)")
    assert "yours has (1, 1). The axes are (size,)." in repr(judge(with_axes, lambda x, times: double(x, times)[None]))


def test_nan_is_refused_unless_the_behaviours_judge_it() -> None:
    def answer(x, times):
        return double(x, times) * torch.nan

    assert judge(EXERCISE, answer).failed == "gives an answer of the right kind"
    assert judge(dataclasses.replace(EXERCISE, judges_nan=True), answer).failed == "keeps the signs"


def test_numbers_close_to_each_other_are_shown_apart() -> None:
    assert describe(5 + torch.tensor([0.001, 0.002])) == "[5.001, 5.002]"
    assert describe(torch.tensor([1.0, 2.5])) == "[1, 2.5]"
    assert describe(torch.tensor([])) == "a tensor of shape (0,)"


def test_an_unknown_exercise_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no checked exercise is called '1.3'; did you mean 01.3"):
        check("1.3", None)


def test_show_calls_the_example_and_judges_nothing() -> None:
    text = repr(show("01.3", lambda scores, top_k, block_size: torch.zeros(6, 2)))
    assert text.startswith("top_blocks(\n    scores=[[")
    assert text.endswith("returns\n[[0, 0],\n [0, 0],\n [0, 0],\n [0, 0],\n [0, 0],\n [0, 0]]")
    assert show("01.3", None).state == "not started"


def test_feedback_in_colour_says_the_same_and_shows_no_markup_of_the_learners() -> None:
    def answer(x, times):
        print("<script>alert(1)</script>")
        return 2 * x

    feedback = judge(EXERCISE, answer)
    html = feedback._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    for part in (feedback.failed, feedback.expected, "<code>times</code>"):
        assert part in html
