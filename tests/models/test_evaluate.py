from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dslearn.data import ByteTokenizer, Document
from dslearn.models import evaluate_bits_per_byte, token_nats


def text(content: str) -> Document:
    return Document("a", "prose", content)


def test_a_uniform_model_needs_log2_of_the_vocabulary_for_each_token(small_model) -> None:
    model = small_model(vocab_size=257)
    with torch.no_grad():
        model.embedding.weight.zero_()  # the head gives every token the same logit
    documents = [text("naïve café"), text("x" * 20)]
    tokens = 12 + 1 + 20 + 1  # UTF-8 bytes, and the end of each document
    expected = math.log2(257) * tokens / 32
    for context in (1, 7, 512):
        assert evaluate_bits_per_byte(model, documents, ByteTokenizer(), context=context) == pytest.approx(expected)


@pytest.mark.parametrize("attention", ["dense", "sparse"])
@pytest.mark.parametrize("length", [2, 14, 29])
def test_a_window_that_holds_everything_predicts_like_one_pass(small_model, attention: str, length: int) -> None:
    model = small_model(attention)
    tokens = torch.randint(0, 50, (length,))
    expected = F.cross_entropy(model(tokens[None, :-1])[0], tokens[1:], reduction="none")
    torch.testing.assert_close(token_nats(model, tokens, context=28, stride=14), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("context", "stride"), [(4, 4), (4, 1), (5, 2)])
def test_every_token_is_predicted_once_with_at_least_the_promised_context(
    small_model, context: int, stride: int
) -> None:
    model = small_model()
    tokens = torch.randint(0, 50, (13,))
    nats = token_nats(model, tokens, context=context, stride=stride)
    assert nats.shape == (12,)
    for target in range(1, 13):
        allowed = [
            F.cross_entropy(model(tokens[None, start:target])[0, -1], tokens[target])
            for start in range(max(0, target - context), max(0, target - (context - stride) - 1) + 1)
        ]
        assert min(abs(nats[target - 1] - loss) for loss in allowed) < 1e-4


def test_restores_the_mode_of_the_model(small_model) -> None:
    model = small_model().train()
    evaluate_bits_per_byte(model, [text("abc")], ByteTokenizer64(), context=4)
    assert model.training


class ByteTokenizer64(ByteTokenizer):
    """Bytes folded into 49 ids, so that a small vocabulary holds them."""

    vocab_size = 50
    eod = 49

    def encode(self, text: str) -> list[int]:
        return [byte % 49 for byte in super().encode(text)]


def test_refuses_no_text_and_impossible_strides(small_model) -> None:
    with pytest.raises(ValueError, match="without a single byte"):
        evaluate_bits_per_byte(small_model(), [text("")], ByteTokenizer64(), context=4)
    with pytest.raises(ValueError, match="got stride=5 with context=4"):
        evaluate_bits_per_byte(small_model(), [text("abc")], ByteTokenizer64(), context=4, stride=5)
