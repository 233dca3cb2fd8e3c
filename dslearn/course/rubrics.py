"""Exercises that no program can judge: their points, and the learner's own count of those that are met."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace

from dslearn.course.feedback import Feedback
from dslearn.course.ledger import LedgerError
from dslearn.course.progress import record


@dataclass(frozen=True)
class Rubric:
    """A design or open exercise.

    Attributes:
        id, title, minutes, difficulty: as the notebook gives them; difficulty from 1 to 3.
        points: what a good answer has, each a sentence that one can honestly tick.
    """

    id: str
    title: str
    minutes: int
    difficulty: int
    points: tuple[str, ...]

    def told(self) -> str:
        """The points, numbered."""
        return "\n".join(f"{number}. {point}" for number, point in enumerate(self.points, start=1))


RUBRICS = {
    rubric.id: rubric
    for rubric in (
        Rubric(
            id="01.9",
            title="Thirty-two thousand tokens and a clause",
            minutes=20,
            difficulty=2,
            points=(
                "I keep reading the contract (prefill, on which the first word waits) apart from writing the "
                "answer (decoding), and I choose strict or prefill for each of them, and for training, with a "
                "reason.",
                "Block size and budget are given in tokens, own block included, with what would be lost with half and "
                "with double.",
                "Flat or tree follows from a count of scores at this length, or from a timing, and not from taste.",
                "Quality is tested by looking something up at several distances, up to the whole length; "
                "perplexity alone is not taken as proof.",
                "It says what is measured against what (dense, and a window of the same budget, over several "
                "seeds and documents) and which loss I would accept, fixed before measuring; overlapping "
                "bands count as no difference shown.",
                "It says when dense attention wins, such as for short contracts, and the time is measured on "
                "my own machine, with the choosing and the rest of the network included.",
            ),
        ),
        Rubric(
            id="01.10",
            title="Make yours sparse",
            minutes=90,
            difficulty=3,
            points=(
                "Before any training, with every block chosen, the sparse layer gave what the dense one "
                "gives, and the report shows the largest difference.",
                "The report gives the selectors' loss before and after the warm-up, and compares trained "
                "selectors with untrained ones or random blocks.",
                "Quality stands for dense, chosen blocks and a window of the same budget, on the same "
                "held-out data, with one test that needs looking far back, and with its spread over seeds or "
                "documents.",
                "Time was measured in turns, with the choosing included, at four lengths or more, and is "
                "given as median and spread, with the machine.",
                "The report says where dense attention won, or where no difference could be shown, and "
                "concludes nothing from overlapping bands.",
                "Somebody else could repeat it: code, seeds, data, versions, block size and budget are there, "
                "and so is what I did not try.",
            ),
        ),
        Rubric(
            id="02.9",
            title="Mix yours",
            minutes=90,
            difficulty=3,
            points=(
                "The opponent is a plain layer of the same cost for a token or of as many parameters, the report says "
                "which, and it gives both counts for every contender.",
                "Both were trained on the same data with the same number of steps, by three seeds or more.",
                "Quality was measured on data kept from training and is given with its spread; nothing is concluded "
                "from overlapping bands.",
                "The loads stand there with use, MaxVio, entropy and drops together, for the worst layer, beside what "
                "a fair router reaches on as many tokens.",
                "Time was measured in turns, forward and backward, and is given as median and spread, with the "
                "machine.",
                "The report says where the plain layer won, or where no difference could be shown, and what I did not "
                "try; somebody else could repeat it.",
            ),
        ),
    )
}


def rubric(exercise_id: str, met: object = ...) -> Feedback:
    """Show what a good answer has, or store which of the points you find met.

    Args:
        exercise_id: such as ``"01.9"``.
        met: numbers of the points that your answer meets; the dots for not judged yet.

    Raises:
        ValueError: there is no such exercise, no such point, or ``met`` is no list of numbers.
    """
    if exercise_id not in RUBRICS:
        near = difflib.get_close_matches(str(exercise_id), RUBRICS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RUBRICS)}"
        raise ValueError(f"no exercise with a rubric is called {exercise_id!r}; {hint}")
    asked = RUBRICS[exercise_id]
    if met is ... or met is None:
        return Feedback(asked.id, asked.title, "not started", f"A good answer:\n{asked.told()}")
    if not isinstance(met, Collection) or not all(type(number) is int for number in met):
        raise ValueError(f"met takes the numbers of the points that are met, such as [1, 3]; got {met!r}")
    left = {number: point for number, point in enumerate(asked.points, start=1) if number not in met}
    if len(left) + len(set(met)) != len(asked.points):
        raise ValueError(f"the points of {asked.id} are 1 to {len(asked.points)}; got {met!r}")
    count = len(asked.points) - len(left)
    said = f"By your own judgement {count} of {len(asked.points)} points are met."
    if left:
        said += " Left:\n" + "\n".join(f"{number}. {point}" for number, point in left.items())
    feedback = Feedback(asked.id, asked.title, "done" if count else "not yet", said)
    try:
        record(feedback, met=count, of=len(asked.points))
    except LedgerError as error:
        return replace(feedback, note=f"Your progress could not be stored: {error}")
    return feedback
