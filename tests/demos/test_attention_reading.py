from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dslearn.data import load_bpe
from dslearn.demos.attention.pair import EXAMPLE_LENGTH, Pair
from dslearn.demos.attention.reading import Readings, pieces, read_text
from dslearn.demos.examples import EXAMPLES, example
from dslearn.models import LanguageModel, ModelConfig
from dslearn.plots import selected_blocks_over_text

TEXT = "def mean(values):\n    return sum(values) / len(values)\n" * 3
TOKENIZER = load_bpe()


@pytest.fixture(scope="module")
def readings(pair: Pair) -> Readings:
    return read_text(pair, TEXT)


@pytest.fixture(scope="module")
def attended(pair: Pair) -> list[torch.Tensor]:
    """What goes into each attention layer while the sparse model itself reads the text."""
    seen: list[torch.Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for layer in pair.sparse.attention_layers]
    with torch.no_grad():
        pair.sparse(pair.encode(TEXT, pair.context)[0][None])
    for hook in hooks:
        hook.remove()
    return seen


def test_both_views_share_their_weights_and_keep_their_stages(pair: Pair) -> None:
    for dense, sparse in zip(pair.dense.parameters(), pair.sparse.parameters(), strict=True):
        assert dense is sparse
    assert {layer.stage for layer in pair.dense.attention_layers} == {"dense"}
    assert {layer.stage for layer in pair.sparse.attention_layers} == {"sparse"}


def test_within_the_budget_both_views_say_the_same_and_beyond_they_do_not(pair: Pair) -> None:
    tokens = pair.encode(TEXT, pair.context)[0][None]
    assert tokens.shape[1] > pair.budget
    with torch.no_grad():
        dense, sparse = pair.dense(tokens), pair.sparse(tokens)
    torch.testing.assert_close(dense[:, : pair.budget], sparse[:, : pair.budget])
    assert not torch.allclose(dense[:, -1], sparse[:, -1])


def test_a_dense_model_is_refused() -> None:
    model = LanguageModel(ModelConfig(vocab_size=8, dim=8, num_heads=1, num_layers=1, hidden_dim=8))
    with pytest.raises(ValueError, match="one sparse model; got dense attention"):
        Pair.of(model, TOKENIZER, 128)


def test_blocks_and_masses_are_those_of_the_layers_themselves(
    pair: Pair, readings: Readings, attended: list[torch.Tensor]
) -> None:
    for number, (layer, x) in enumerate(zip(pair.sparse.attention_layers, attended, strict=True)):
        chosen, mass = layer.reading(x)
        assert torch.equal(readings.blocks[number], chosen[0])
        torch.testing.assert_close(readings.mass[number], mass[0])


def test_counts_and_shares_are_those_of_the_formula(
    pair: Pair, readings: Readings, attended: list[torch.Tensor]
) -> None:
    key = torch.arange(len(readings.pieces))
    past = key <= key[:, None]
    for number, (layer, x) in enumerate(zip(pair.sparse.attention_layers, attended, strict=True)):
        q, k, _ = layer._project(x, None)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~past, -torch.inf).softmax(-1)[0]
        in_chosen = (key // 4 == readings.blocks[number][..., None]).any(-2)
        read = in_chosen & past
        for head in range(2):
            for token in (0, 3, 4, 17, len(key) - 1):
                reading = readings.at(token, number, head)
                assert reading.keys_read == read[head, token].sum()
                assert reading.keys == token + 1
                assert reading.share == pytest.approx((weights * read)[head, token].sum().item(), abs=1e-6)


def test_the_picture_of_the_library_counts_the_same(readings: Readings) -> None:
    reading = readings.at(41, 1, 1)
    figure = selected_blocks_over_text(readings.pieces, 41, reading.blocks, block_size=readings.block_size)
    assert f"reads {reading.keys_read} of {reading.keys} tokens" in figure.alt


def test_later_text_changes_nothing_before_it(pair: Pair, readings: Readings) -> None:
    longer = read_text(pair, TEXT + "and more")
    tokens = len(readings.pieces)
    assert torch.equal(longer.blocks[:, :, : tokens - 1], readings.blocks[:, :, : tokens - 1])


def test_only_the_end_of_a_long_text_is_read(pair: Pair) -> None:
    assert not read_text(pair, " a" * (pair.context - 1)).shortened
    for text in (" a" * pair.context, " a" * 100_000):
        readings = read_text(pair, text + " end")
        assert readings.shortened
        assert len(readings.pieces) == pair.context
        assert "".join(readings.pieces) == " a" * (pair.context - 2) + " end"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
def test_the_pieces_joined_are_the_text(text: str) -> None:
    tokens = [TOKENIZER.eod, *TOKENIZER.encode(text)]
    cut = pieces(TOKENIZER, tokens)
    assert len(cut) == len(tokens)
    assert "".join(cut) == text


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    assert "".join(pieces(TOKENIZER, TOKENIZER.encode("a😀")[:-1])) == "a\ufffd"


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("prose")])
def test_examples_fill_more_than_the_budget_and_less_than_the_context(name: str) -> None:
    assert 512 < len(TOKENIZER.encode(example(name, EXAMPLE_LENGTH).text)) < 2048


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("code")])
def test_pieces_of_code_do_so_too(name: str) -> None:
    assert 512 < len(TOKENIZER.encode(example(name, EXAMPLE_LENGTH).text)) < 2048
