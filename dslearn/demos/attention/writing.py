"""Dense and sparse writing the same prompt on, in turns, with the time of every token."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from dslearn.data import Tokenizer
from dslearn.demos.attention.pair import Pair
from dslearn.models import LanguageModel, generate_tokens

_END = "\n[end of the document]\n"


@dataclass
class Sample:
    """What one view has written so far, and the milliseconds that each token took."""

    tokens: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def text(self, tokenizer: Tokenizer) -> str:
        """The text, with the ends of documents spelled out."""
        parts: list[list[int]] = [[]]
        for token in self.tokens:
            if token == tokenizer.eod:
                parts.append([])
            else:
                parts[-1].append(token)
        return _END.join(map(tokenizer.decode, parts))

    def times(self) -> str:
        """A sentence: the first token, which reads the prompt, and the median of the others."""
        if not self.ms:
            return ""
        first, *others = self.ms
        later = f", then {statistics.median(others):.1f} ms a token" if others else ""
        return f"First token after {first:.0f} ms{later}."


def write_in_turns(
    pair: Pair, prompt: Int[Tensor, " tokens"], count: int, *, temperature: int | float, seed: int
) -> Iterator[dict[str, Sample]]:
    """Both views' samples after each step of one token each; with the same draws, from the same prompt.

    They take turns, so that a busy moment of the machine hits both alike. The first tokens, which are waited for, are
    handed out one by one. The samples are the same objects at every step.
    """
    samples = {name: Sample() for name in pair.views}
    streams = {
        name: generate_tokens(view, prompt[None], count, temperature=float(temperature), seed=seed)
        for name, view in pair.views.items()
    }
    for step in range(count):
        for name, sample in samples.items():
            started = time.perf_counter()
            sample.tokens.append(int(next(streams[name])))
            sample.ms.append(1e3 * (time.perf_counter() - started))
            if step == 0:
                yield samples
        if step > 0:
            yield samples


def shared_start(samples: dict[str, Sample]) -> int:
    """How many tokens all samples begin with in common."""
    same = 0
    for tokens in zip(*(sample.tokens for sample in samples.values()), strict=False):
        if len(set(tokens)) > 1:
            break
        same += 1
    return same


@torch.inference_mode()
def likeliest(
    model: LanguageModel, tokenizer: Tokenizer, prompt: Int[Tensor, " tokens"], count: int = 5
) -> dict[str, float]:
    """The likeliest next tokens as quoted text, with their probabilities."""
    logits = model(prompt[None].to(model.device))[0, -1].float()
    best = logits.softmax(dim=-1).topk(min(count, len(logits)))
    names = [name_of(tokenizer, token) for token in best.indices.tolist()]
    return dict(zip(names, best.values.tolist(), strict=True))


def name_of(tokenizer: Tokenizer, token: int) -> str:
    """A token as one can read it: quoted, blanks and line ends visible; its number if it is half a character."""
    if token == tokenizer.eod:
        return "end of the document"
    text = tokenizer.decode([token])
    return f"token {token}" if "\ufffd" in text else repr(text).replace(" ", "␣")
