from __future__ import annotations

import pytest
import torch

from dslearn.demos.attention import timing, writing
from dslearn.demos.attention.pair import Pair
from dslearn.demos.attention.writing import Sample, likeliest, name_of, shared_start, write_in_turns
from dslearn.models import generate


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_both_write_what_the_library_writes(pair: Pair, temperature: float) -> None:
    prompt, _ = pair.encode("def f(x):\n    return x\n" * 4, 100)
    *_, samples = write_in_turns(pair, prompt, 6, temperature=temperature, seed=3)
    for name, view in pair.views.items():
        expected = generate(view, prompt[None], 6, temperature=float(temperature), seed=3)[0, len(prompt) :]
        assert samples[name].tokens == expected.tolist()
        assert len(samples[name].ms) == 6 and min(samples[name].ms) > 0


def test_they_take_turns(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def generate_tokens(view, *_, **__):
        for token in range(3):
            order.append("dense" if view is pair.dense else "sparse")
            yield torch.tensor([token])

    monkeypatch.setattr(writing, "generate_tokens", generate_tokens)
    writer = write_in_turns(pair, torch.tensor([1]), 3, temperature=0, seed=0)
    steps = [(len(samples["dense"].tokens), len(samples["sparse"].tokens)) for samples in writer]
    assert order == ["dense", "sparse"] * 3
    assert steps == [(1, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("dense", "sparse", "same"), [([1, 2], [1, 2], 2), ([1, 2, 3], [1, 5, 3], 1), ([], [], 0)])
def test_what_both_begin_with(dense: list[int], sparse: list[int], same: int) -> None:
    assert shared_start({"dense": Sample(dense), "sparse": Sample(sparse)}) == same


def test_times_are_told_apart() -> None:
    assert Sample().times() == ""
    assert Sample([1], [60.4]).times() == "First token after 60 ms."
    assert Sample([1, 2, 3, 4], [60.4, 5.0, 7.0, 90.0]).times() == "First token after 60 ms, then 7.0 ms a token."


def test_the_end_of_a_document_is_spelled_out(pair: Pair) -> None:
    tokens = [*pair.tokenizer.encode("one"), pair.tokenizer.eod, *pair.tokenizer.encode("two")]
    assert Sample(tokens).text(pair.tokenizer) == "one\n[end of the document]\ntwo"


def test_the_likeliest_tokens_have_the_models_probabilities(pair: Pair) -> None:
    prompt, _ = pair.encode("import ", 50)
    with torch.no_grad():
        expected = pair.dense(prompt[None])[0, -1].softmax(-1)
    best = likeliest(pair.dense, pair.tokenizer, prompt)
    assert list(best.values()) == pytest.approx(expected.sort(descending=True).values[:5].tolist(), rel=1e-4)
    assert next(iter(best)) == name_of(pair.tokenizer, int(expected.argmax()))


def test_every_token_has_a_name_of_its_own_that_can_be_read(pair: Pair) -> None:
    names = [name_of(pair.tokenizer, token) for token in range(pair.tokenizer.vocab_size)]
    assert len(set(names)) == len(names)
    assert all(name.isprintable() and " " not in name.removeprefix("token ") for name in names[:-1])
    assert names[-1] == "end of the document"


def test_lengths_are_timed_in_turns(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def milliseconds(layer, x):
        order.append((x.shape[1], layer.stage))
        return 1.0

    monkeypatch.setattr(timing, "_milliseconds", milliseconds)
    timed = dict(timing.time_lengths(pair, (16, 32), repeats=2))
    assert timed == {16: {"dense": [1, 1], "sparse": [1, 1]}, 32: {"dense": [1, 1], "sparse": [1, 1]}}
    assert order == [(n, stage) for n in (16, 16, 32, 32) for stage in ("dense", "sparse")]


def test_times_are_milliseconds(pair: Pair) -> None:
    (length, ms), *_ = timing.time_lengths(pair, (64,), repeats=3)
    assert length == 64
    assert all(len(samples) == 3 and 0 < min(samples) < 1000 for samples in ms.values())
