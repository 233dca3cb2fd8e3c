"""The explorer's Python side: what it takes, what it refuses, what it leaves on a page without a kernel."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import torch
import traitlets

from dslearn.data import load_bpe
from dslearn.models import LanguageModel, ModelConfig, load_model
from dslearn.widgets import SparseMaskExplorer


def tensors(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(shape), torch.randn(shape)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"q": torch.randn(1, 2, 8, 4), "k": torch.randn(1, 2, 8, 4)},
            r"q must be \(heads, tokens, rank\).*\(1, 2, 8, 4\).*q\[0\]",
        ),
        ({"q": torch.randn(8, 4), "k": torch.randn(8, 4)}, r"q must be \(heads, tokens, rank\).*q\[None\]"),
        ({"q": torch.randn(1, 0, 4), "k": torch.randn(1, 0, 4)}, "none of them 0"),
        ({"q": torch.randn(1, 8, 4), "k": torch.randn(1, 9, 4)}, r"one shape; got \(1, 8, 4\) and \(1, 9, 4\)"),
        ({"q": torch.randn(1, 8, 4)}, "belong together"),
        ({"q": torch.full((1, 8, 4), torch.nan), "k": torch.randn(1, 8, 4)}, "q holds NaN"),
        ({"q": torch.randn(1, 8, 4), "k": torch.full((1, 8, 4), torch.inf)}, "k holds NaN or infinite"),
        (
            {"q": torch.zeros(1, 100_000, 1), "k": torch.zeros(1, 100_000, 1)},
            "100,000 tokens has 10,000,000,000 cells.*4,096",
        ),
        ({"labels": ["one"]}, "one for each of the 8 tokens"),
        ({"attention": torch.randn(1, 8, 9)}, r"attention must be \(1, 8, 8\)"),
        ({"attention": torch.full((1, 8, 8), torch.nan)}, "attention holds NaN"),
        ({"pattern": "sparse"}, "pattern must be one of dense, window, flat, tree, token; got 'sparse'"),
        ({"tokens": 9}, "tokens must be a whole number from 1 to 8; got 9"),
        ({"block_size": 8, "query_block": 3}, "query_block must divide block_size=8; got 3"),
        ({"top_k": 0}, "top_k must be a whole number from 1"),
        ({"head": 1}, "head must be a whole number from 0 to 0; got 1"),
        ({"budget": 4}, "unknown setting budget; there are pattern, tokens"),
    ],
)
def test_bad_input_is_refused_in_words(given, says: str, unchecked) -> None:
    own = {} if {"q", "k"} & given.keys() else dict(zip("qk", tensors(1, 8, 4), strict=True))
    with pytest.raises(ValueError, match=re.compile(says, re.DOTALL)):
        SparseMaskExplorer(**own, **given)


def test_a_setting_that_does_not_fit_later_is_refused_too() -> None:
    explorer = SparseMaskExplorer(*tensors(1, 64, 4), block_size=8)
    for name, value in {"tokens": 65, "query_block": 3, "branching": 1, "pattern": "sparse", "position": -1}.items():
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(explorer, name, value)
    with explorer.hold_trait_notifications():
        explorer.query_block, explorer.block_size = 16, 16
    assert (explorer.block_size, explorer.query_block) == (16, 16)


def test_the_page_of_text_is_held_out_prose_that_looks_for_its_like() -> None:
    explorer = SparseMaskExplorer(pattern="token", tokens=512, block_size=1, top_k=1)
    like = explorer.mask().int().argmax(dim=-1)
    again = [token for token in range(512) if explorer.labels[token] in explorer.labels[:token]]
    assert len(again) > 50
    assert all(explorer.labels[like[token]] == explorer.labels[token] for token in again)


def test_a_trained_model_is_shown_as_it_chooses_and_looks() -> None:
    model, text = load_model("language"), "for index in range(10):\n    print(index)\n" * 8
    explorer = SparseMaskExplorer.from_model(model, text, layer=1, tokens=96, head=2)
    layer = model.attention_layers[1]
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.eval()(torch.tensor([load_bpe().encode(text)[:96]]))
    chosen, mass = layer.reading(seen[0])
    blocks = torch.arange(96) // layer.block_size
    expected = (chosen[0, 2, :, :, None] == blocks).any(dim=1) & torch.ones(96, 96, dtype=torch.bool).tril()
    assert torch.equal(explorer.mask(), expected)
    assert "".join(explorer.labels) == text[: len("".join(explorer.labels))]
    shades = torch.frombuffer(bytearray(explorer.attention), dtype=torch.uint8).view(explorer.shape[0], 96, 96)
    by_block = torch.stack([part.sum(-1) for part in shades[2].float().split(layer.block_size, dim=-1)], dim=-1)
    assert torch.allclose(by_block / by_block.sum(-1, keepdim=True), mass[0, 2], atol=0.03)


@pytest.mark.parametrize(
    ("attention", "layer", "text", "says"),
    [
        ("dense", 0, "words", "layer 0 is DenseAttention, which chooses nothing"),
        ("sparse", 2, "words", "layer must lie in -2…1; got 2"),
        ("sparse", 0, "", "the text is empty"),
    ],
)
def test_a_model_that_cannot_be_shown_is_refused(attention, layer: int, text: str, says: str) -> None:
    model = LanguageModel(
        ModelConfig(vocab_size=4096, dim=16, num_layers=2, num_heads=2, hidden_dim=16, attention=attention)
    )
    with pytest.raises(ValueError, match=says):
        SparseMaskExplorer.from_model(model, text, layer=layer)


class Tags(HTMLParser):
    """The opening tags of a text, as a browser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_fragment_stands_alone_and_text_cannot_leave_its_place() -> None:
    labels = ["</script>", "<b>", "<!--", "&amp;", '"', "\\u003c", "\n", "é"]
    explorer = SparseMaskExplorer(*tensors(2, 8, 4), labels=labels, head=1, block_size=2)
    html = explorer.as_html()
    tags = Tags(html).found
    names = [tag for tag, _ in tags]
    assert names.count("script") == 3 and names.count("img") == 1 and "b" not in names
    state, esm, _ = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert json.loads(state)["labels"] == labels
    assert json.loads(esm) == SparseMaskExplorer._esm
    assert json.loads(state)["shape"] == [1, 8, 4]  # of two heads, the one on show
    picture = next(attributes for tag, attributes in tags if tag == "img")
    assert "reads" in picture["alt"] and picture["src"].startswith("data:image/png;base64,")
    assert not re.search(r"https?://(?!www\.w3\.org)", html)


def test_a_notebook_gets_the_live_widget_the_fragment_and_words() -> None:
    bundle, _ = SparseMaskExplorer(*tensors(1, 32, 4))._repr_mimebundle_()
    assert bundle["text/html"].count("dslearn-static") and bundle["text/plain"].startswith("Explorer: ")
    assert "application/vnd.jupyter.widget-view+json" in bundle
