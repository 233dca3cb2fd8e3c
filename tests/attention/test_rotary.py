from __future__ import annotations

import cmath

import pytest
import torch

from dslearn.attention import rotate
from tests.attention.plain import draw


def test_each_pair_is_a_complex_number_turned_by_position_times_frequency() -> None:
    x = draw(1, 1, 7, 6)
    turned = rotate(x, start=3, base=100.0)
    for token in range(7):
        for pair in range(3):
            angle = (3 + token) * 100.0 ** (-2 * pair / 6)
            z = complex(x[0, 0, token, pair], x[0, 0, token, pair + 3]) * cmath.exp(1j * angle)
            got = complex(turned[0, 0, token, pair], turned[0, 0, token, pair + 3])
            assert abs(got - z) < 1e-5


def test_a_product_depends_on_the_distance_alone() -> None:
    q, k = draw(1, 1, 1, 8), draw(1, 1, 1, 8, seed=1)
    products = [(rotate(q, start=at + 5) * rotate(k, start=at)).sum().item() for at in (0, 1, 40, 1000)]
    assert products == pytest.approx([products[0]] * 4, abs=1e-4)
    assert (rotate(q, start=6) * rotate(k)).sum().item() != pytest.approx(products[0], abs=1e-3)


def test_pieces_rotate_as_the_whole() -> None:
    x = draw(2, 3, 9, 4)
    pieces = torch.cat([rotate(x[:, :, :4]), rotate(x[:, :, 4:], start=4)], dim=2)
    assert torch.equal(pieces, rotate(x))


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match="dim must be even; got dim=5"):
        rotate(draw(1, 1, 2, 5))
