from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from dslearn.data.recall import IGNORED, NeedleTask, RecallBatch, RecallTask, recall_curriculum

TASK = RecallTask(num_tokens=64, num_pairs=8)
LAYOUTS = pytest.mark.parametrize("layout", ["batch", "evaluation_batch"])


def oracle(tokens: Tensor, task: RecallTask | NeedleTask) -> Tensor:
    """What a dictionary answers at each token from the tokens up to it; −100 for a key not yet seen."""
    answers = torch.full_like(tokens, IGNORED)
    for row, sequence in enumerate(tokens.tolist()):
        known: dict[int, int] = {}
        for t, token in enumerate(sequence):
            if token < task.num_keys:
                answers[row, t] = known.get(token, IGNORED)
            elif t and sequence[t - 1] < task.num_keys:
                known[sequence[t - 1]] = token
    return answers


def accuracy(answers: Tensor, targets: Tensor) -> float:
    asked = targets != IGNORED
    return (answers[asked] == targets[asked]).float().mean().item()


def kinds(tokens: Tensor) -> str:
    return "".join("k" if t < 32 else "v" if t < 64 else "n" for t in tokens.tolist())


@LAYOUTS
@pytest.mark.parametrize("size", [(4, 1), (33, 4), (256, 16), (128, 32)])
def test_a_dictionary_answers_every_question_and_nothing_else_is_asked(layout: str, size: tuple[int, int]) -> None:
    task = RecallTask(num_tokens=size[0], num_pairs=size[1])
    batch: RecallBatch = getattr(task, layout)(0, 0, 32)
    assert batch.tokens.shape == batch.targets.shape == (32, size[0])
    assert int(batch.tokens.min()) >= 0
    assert int(batch.tokens.max()) < task.vocab_size == 96
    assert torch.equal(oracle(batch.tokens, task), batch.targets)


@LAYOUTS
def test_a_guess_among_the_values_shown_is_mostly_wrong(layout: str) -> None:
    tokens, targets = getattr(TASK, layout)(0, 0, 256)
    right = asked = 0
    for sequence, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
        shown: Counter[int] = Counter()
        for token, answer in zip(sequence, answers, strict=True):
            if 32 <= token < 64:
                shown[token] += 1
            if answer != IGNORED:
                asked, right = asked + 1, right + (shown.most_common(1)[0][0] == answer)
    assert right / asked < 0.4
    assert accuracy(torch.full_like(targets, 40), targets) < 0.08


@LAYOUTS
def test_a_mapping_learned_by_heart_does_not_help(layout: str) -> None:
    first, second = getattr(TASK, layout)(0, 0, 256), getattr(TASK, layout)(0, 1, 256)
    asked = first.targets != IGNORED
    table = {int(k): int(v) for k, v in zip(first.tokens[asked], first.targets[asked], strict=True)}
    answers = second.tokens.clone().apply_(lambda token: table.get(token, IGNORED))
    assert accuracy(answers, second.targets) < 0.1


def test_training_asks_every_repeated_key_and_names_no_more_pairs_than_asked() -> None:
    tokens, targets = TASK.batch(0, 0, 64)
    for sequence, answers in zip(tokens, targets, strict=True):
        keys = sequence[sequence < 32].tolist()
        assert len(set(keys)) <= 8
        assert int((answers != IGNORED).sum()) == len(keys) - len(set(keys))
    assert 0.1 < (tokens >= 64).float().mean().item() < 0.6


def test_evaluation_shows_pairs_once_then_noise_then_asks_every_key_once() -> None:
    tokens, targets = TASK.evaluation_batch(0, 0, 64)
    assert {kinds(row) for row in tokens} == {"kv" * 8 + "n" * 32 + "kv" * 8}
    assert torch.equal(tokens[:, :16:2].sort(dim=1).values, tokens[:, 48::2].sort(dim=1).values)
    assert not torch.equal(tokens[:, :16:2], tokens[:, 48::2])
    assert all(len(set(row)) == 8 for row in tokens[:, :16:2].tolist())
    asked = (targets != IGNORED).nonzero()[:, 1].reshape(64, 8)
    assert torch.equal(asked, torch.arange(48, 64, 2).expand(64, 8))


@pytest.mark.parametrize("draw", [TASK.batch, TASK.evaluation_batch, NeedleTask(num_tokens=64, distance=40).batch])
def test_batches_are_a_pure_function_of_seed_and_step(draw) -> None:
    first, again = draw(3, 5, 16), draw(3, 5, 16)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.tokens, draw(3, 6, 16).tokens)
    assert not torch.equal(first.tokens, draw(4, 5, 16).tokens)
    assert not torch.equal(draw(3, 5, 16).tokens, draw(5, 3, 16).tokens)


@pytest.mark.parametrize("distance", [2, 3, 500, 999])
def test_needle_lies_at_its_distance_in_nothing_but_noise(distance: int) -> None:
    task = NeedleTask(num_tokens=1000, distance=distance)
    tokens, targets = task.batch(0, 0, 32)
    expected = "n" * (999 - distance) + "kv" + "n" * (distance - 2) + "k"
    assert {kinds(row) for row in tokens} == {expected}
    assert torch.equal(oracle(tokens, task), targets)
    assert (targets != IGNORED).sum(dim=1).tolist() == [1] * 32
    assert len(tokens[:, -1].unique()) > 10


def test_curriculum_grows_over_one_vocabulary() -> None:
    tasks = [task for task, _ in recall_curriculum()]
    assert [task.num_tokens for task in tasks] == sorted(task.num_tokens for task in tasks)
    assert [task.num_pairs for task in tasks] == sorted(task.num_pairs for task in tasks)
    assert {task.vocab_size for task in tasks} == {96}
    assert all(steps > 0 for _, steps in recall_curriculum())


def test_other_symbol_counts_move_the_ids() -> None:
    task = RecallTask(num_tokens=20, num_pairs=3, num_keys=3, num_values=2, num_noise=1)
    tokens, targets = task.evaluation_batch(0, 0, 200)
    assert tokens.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert targets.unique().tolist() == [IGNORED, 3, 4]


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"num_pairs must be in 1…num_keys = 32, got 33"):
        RecallTask(num_tokens=500, num_pairs=33)
    with pytest.raises(ValueError, match=r"num_pairs must be in .*, got 0"):
        RecallTask(num_tokens=500, num_pairs=0)
    with pytest.raises(ValueError, match=r"num_tokens must be at least 4 · num_pairs = 32, got 31"):
        RecallTask(num_tokens=31, num_pairs=8)
    with pytest.raises(ValueError, match=r"num_noise must be at least 1, got 0"):
        RecallTask(num_tokens=64, num_pairs=8, num_noise=0)
    for distance in (1, 64):
        with pytest.raises(ValueError, match=rf"distance must be in 2…num_tokens - 1 = 63, got {distance}"):
            NeedleTask(num_tokens=64, distance=distance)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        TASK.batch(0, 0, 0)
    with pytest.raises(ValueError, match=r"seed must be in .*, got -1"):
        TASK.batch(-1, 0, 4)
