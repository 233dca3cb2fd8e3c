"""Which keys each query reads, under the pointer: ``SparseMaskExplorer``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
import traitlets
from jaxtyping import Bool
from torch import Tensor

from dslearn.attention import BlockTree, own_blocks, select_blocks
from dslearn.models import LanguageModel
from dslearn.plots import DescribedFigure, attention_mask
from dslearn.widgets.base import Explorer, source
from dslearn.widgets.features import of_a_model, of_a_page

Pattern = Literal["dense", "window", "flat", "tree", "token"]
MAX_TOKENS = 4096


class SparseMaskExplorer(Explorer):
    """Who reads what, as a mask under the pointer, with what the choice costs and the way down the tree.

    Everything is computed in the page, by the rules of :func:`dslearn.attention.select_blocks`: for a pattern, a
    length, a block size, a budget and a unit of queries that choose together. Without tensors it shows a page of
    Python's documentation whose tokens look for their like.

    Args:
        q, k: your own index features, (heads, tokens, rank), at most 4,096 tokens.
        labels: your text, a piece a token.
        attention: your dense attention, (heads, queries, keys), shown over the text.
        pattern: "dense", "window", "flat", "tree" or "token".
        tokens: how many of the first tokens are shown.
        block_size: keys a block.
        top_k: blocks a query reads, its own included; under "token" it reads ``top_k * block_size`` tokens.
        query_block: queries that choose together; divides ``block_size``.
        branching: children of a tree node.
        position: the query on show.
        head: the head on show.
        dim, index_rank: features of a key, and of an index key, in the model whose costs are told.

    Raises:
        ValueError: tensors of the wrong shape, NaN in them, too many tokens, or a setting that does not fit.
    """

    _esm = source("base.js", "choose.js", "sparse_mask.js")
    _css = source("base.css")

    pattern = traitlets.Enum(get_args(Pattern), "tree").tag(sync=True)
    tokens = traitlets.Int(1024).tag(sync=True)
    block_size = traitlets.Int(8).tag(sync=True)
    top_k = traitlets.Int(4).tag(sync=True)
    query_block = traitlets.Int(1).tag(sync=True)
    branching = traitlets.Int(4).tag(sync=True)
    position = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    dim = traitlets.Int(64).tag(sync=True)
    index_rank = traitlets.Int(16).tag(sync=True)
    shape = traitlets.Tuple(traitlets.Int(), traitlets.Int(), traitlets.Int()).tag(sync=True)
    quantized = traitlets.Bool().tag(sync=True)
    index_q = traitlets.Bytes().tag(sync=True)
    index_k = traitlets.Bytes().tag(sync=True)
    attention = traitlets.Bytes().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        q: Tensor | None = None,
        k: Tensor | None = None,
        *,
        labels: Sequence[str] = (),
        attention: Tensor | None = None,
        **settings: Any,
    ) -> None:
        if (q is None) != (k is None):
            raise ValueError("q and k belong together: give both, or neither for a page of text")
        if q is None or k is None:
            q, k, labels = of_a_page(MAX_TOKENS)
        _check(q, k, labels, attention)
        heads, available, rank = q.shape
        super().__init__(
            shape=(heads, available, rank),
            quantized=q.dtype == torch.int8,
            index_q=_packed(q),
            index_k=_packed(k),
            attention=b"" if attention is None else _packed(_shades(attention)),
            labels=list(labels),
            **_fitted(settings, heads, available),
        )

    @classmethod
    def from_model(
        cls, model: LanguageModel, text: str, *, layer: int = -1, tokens: int = 512, **settings: Any
    ) -> SparseMaskExplorer:
        """What a layer of a trained sparse model reads in ``text``, beside where its dense attention would look.

        Args:
            model: a language model with sparse attention over the course's tokens.
            text: what it reads; the first ``tokens`` tokens count.
            layer: counted from 0, or backwards from −1.
            settings: as for the class; block size, budget and branching are the layer's unless told.

        Raises:
            ValueError: the layer is dense or does not exist, the text is empty, or a setting does not fit.
        """
        q, k, labels, attention = of_a_model(model, text, layer=layer, tokens=tokens)
        shape = model.config
        own = {
            "block_size": shape.block_size,
            "top_k": shape.top_k,
            "branching": shape.branching,
            "dim": shape.dim // shape.num_heads,
            "index_rank": shape.rank,
        }
        return cls(q, k, labels=labels, attention=attention, **{**own, **settings})

    def mask(self) -> Bool[Tensor, "queries keys"]:
        """Which key each query on show reads, by the library: (tokens, tokens), true where it is read."""
        keys = torch.arange(self.tokens)
        past = keys[:, None] >= keys
        if self.pattern == "dense":
            return past
        q, k = (
            _unpacked(packed, self)[None, None, self.head, : self.tokens] for packed in (self.index_q, self.index_k)
        )
        if self.pattern == "token":
            return _best_tokens(q[0, 0] @ k[0, 0].mT, past, self.top_k * self.block_size)
        if self.pattern == "window":
            own = own_blocks(self.tokens, self.tokens, self.block_size, self.query_block)
            blocks = own[:, None] - torch.arange(self.top_k)
        else:
            tree = BlockTree.build(k, block_size=self.block_size, branching=self.branching)
            shape = {"block_size": self.block_size, "query_block": self.query_block}
            blocks = select_blocks(q, tree, top_k=self.top_k, method=self.pattern, **shape)[0, 0]
        reads = (blocks[:, :, None] == keys // self.block_size).any(dim=1)  # units × keys
        return past & reads[keys // self.query_block]

    def figure(self) -> DescribedFigure:
        """The mask on show as a picture, with its words."""
        return attention_mask(
            {f"{self.pattern}, {self.tokens:,} tokens": self.mask()}, title="Which keys each query reads"
        )

    def state(self) -> dict[str, Any]:
        """As the base's, with the one head on show: a page has no room for all."""
        heads = self.shape[0]
        packed = {name: getattr(self, name) for name in ("index_q", "index_k", "attention")}
        alone = {
            name: all_of[len(all_of) // heads * self.head :][: len(all_of) // heads] for name, all_of in packed.items()
        }
        return {**super().state(), **alone, "head": 0, "shape": (1, *self.shape[1:])}

    @traitlets.validate("tokens", "block_size", "top_k", "query_block", "branching", "position", "head")
    def _valid(self, proposal: Any) -> Any:
        now = {name: getattr(self, name) for name in _SETTINGS}
        try:
            _check_settings({**now, proposal["trait"].name: proposal["value"]}, *self.shape[:2])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return proposal["value"]


_SETTINGS = ("tokens", "block_size", "top_k", "query_block", "branching", "position", "head")


def _fitted(settings: dict[str, Any], heads: int, available: int) -> dict[str, Any]:
    """The settings with what follows from the others, checked."""
    tokens = settings.get("tokens", min(1024, available))
    fitted = {"tokens": tokens, "position": tokens * 3 // 4, **settings}
    if unknown := sorted(set(fitted) - {*_SETTINGS, "pattern", "dim", "index_rank"}):
        raise ValueError(
            f"unknown setting {', '.join(unknown)}; there are pattern, {', '.join(_SETTINGS)}, dim, index_rank"
        )
    if (pattern := fitted.get("pattern", "tree")) not in get_args(Pattern):
        raise ValueError(f"pattern must be one of {', '.join(get_args(Pattern))}; got {pattern!r}")
    _check_settings(
        {"block_size": 8, "top_k": 4, "query_block": 1, "branching": 4, "head": 0, **fitted}, heads, available
    )
    return fitted


def _check_settings(now: dict[str, Any], heads: int, available: int) -> None:
    for name, low, high in (
        ("tokens", 1, available),
        ("block_size", 1, MAX_TOKENS),
        ("top_k", 1, MAX_TOKENS),
        ("query_block", 1, now["block_size"]),
        ("branching", 2, MAX_TOKENS),
        ("position", 0, available - 1),
        ("head", 0, heads - 1),
    ):
        if not isinstance(now[name], int) or not low <= now[name] <= high:
            raise ValueError(f"{name} must be a whole number from {low:,} to {high:,}; got {now[name]!r}")
    if now["block_size"] % now["query_block"]:
        raise ValueError(f"query_block must divide block_size={now['block_size']}; got {now['query_block']}")


def _check(q: Tensor, k: Tensor, labels: Sequence[str], attention: Tensor | None) -> None:
    """Tensors that fit each other and a page.

    Raises:
        ValueError: one does not; the message says what was given and what is allowed.
    """
    for name, given in (("q", q), ("k", k)):
        if given.ndim != 3 or not given.numel():
            raise ValueError(
                f"{name} must be (heads, tokens, rank), none of them 0; got {tuple(given.shape)}. "
                "Of a batch, take one: q[0]. Of one head, q[None]"
            )
    heads, tokens, _ = q.shape
    if k.shape != q.shape:
        raise ValueError(f"q and k must have one shape; got {tuple(q.shape)} and {tuple(k.shape)}")
    if tokens > MAX_TOKENS:
        raise ValueError(
            f"a mask of {tokens:,} tokens has {tokens**2:,} cells, more than a page can draw; "
            f"give at most {MAX_TOKENS:,} tokens, such as q[:, :{MAX_TOKENS}]"
        )
    if len(labels) not in (0, tokens):
        raise ValueError(f"labels must be one for each of the {tokens} tokens, or none; got {len(labels)}")
    if attention is not None and attention.shape != (heads, tokens, tokens):
        raise ValueError(
            f"attention must be {(heads, tokens, tokens)}: heads, queries, keys; got {tuple(attention.shape)}"
        )
    for name, given in (("q", q), ("k", k), ("attention", attention)):
        if given is not None and not given.float().isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite values; nothing can be chosen by them")


def _best_tokens(scores: Tensor, past: Tensor, budget: int) -> Bool[Tensor, "queries keys"]:
    """The ``budget`` best of each query's past."""
    best = scores.masked_fill(~past, -torch.inf).topk(min(budget, len(scores))).indices
    return torch.zeros_like(past).scatter_(-1, best, value=True) & past


def _packed(values: Tensor) -> bytes:
    """Bytes as the script reads them: int8 or uint8 as they are, all else as float32, little-endian."""
    values = values.detach().cpu()
    whole = values.dtype in (torch.int8, torch.uint8)
    return (values if whole else values.float()).contiguous().numpy().tobytes()


def _unpacked(packed: bytes, explorer: SparseMaskExplorer) -> Tensor:
    kind = np.int8 if explorer.quantized else np.float32
    return torch.from_numpy(np.frombuffer(packed, kind).astype(np.float64)).view(*explorer.shape)


def _shades(attention: Tensor) -> Tensor:
    """Attention as 0 to 255, the largest of each query 255."""
    return (255 * attention / attention.amax(dim=-1, keepdim=True).clamp(min=1e-30)).round().to(torch.uint8)
