from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.7")


def parts(scores, attention, block_size):
    """Target, log-probabilities (0 for later blocks) and which blocks are up to the own one."""
    tokens, blocks = scores.shape
    padded = F.pad(attention.detach(), (0, blocks * block_size - tokens))
    seen = torch.arange(blocks) <= torch.arange(tokens)[:, None] // block_size
    log_p = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=1).masked_fill(~seen, 0)
    return padded.unflatten(1, (blocks, block_size)).sum(dim=2), log_p, seen


def divergence(p, log_q):
    """Σ p log(p / q) of each row."""
    return (torch.xlogy(p, p) - p * log_q).sum(dim=1)


@ANSWERS.accepted
def torchs_kl_div(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.accepted
def token_by_token(scores, attention, block_size):
    losses = []
    for token in range(len(scores)):
        own = token // block_size
        target = torch.stack([block.sum() for block in attention[token, : token + 1].detach().split(block_size)])
        log_p = torch.log_softmax(scores[token, : own + 1], dim=0)
        there = target > 0
        losses.append((target[there] * (target[there].log() - log_p[there])).sum())
    return sum(losses) / len(losses)


@ANSWERS.accepted
def cross_entropy_less_entropy(scores, attention, block_size):
    with torch.no_grad():
        block_of = torch.arange(len(scores)) // block_size
        target = attention @ F.one_hot(block_of, scores.shape[1]).to(attention.dtype)
        entropy = torch.special.entr(target).sum(dim=1)
    hidden = torch.arange(scores.shape[1]) > block_of[:, None]
    return F.cross_entropy(scores.masked_fill(hidden, -1e9), target) - entropy.mean()


@ANSWERS.accepted
class Distributions(nn.Module):
    """With torch.distributions, one token at a time."""

    def forward(self, scores, attention, block_size):
        total = scores.new_zeros(())
        for token, row in enumerate(attention.detach()):
            own = token // block_size
            target = torch.tensor([part.sum() for part in row.split(block_size)])[: own + 1]
            teacher = torch.distributions.Categorical(probs=target)
            selector = torch.distributions.Categorical(logits=scores[token, : own + 1])
            safe = torch.where(teacher.probs > 0, teacher.probs.log(), 0)
            total = total + (teacher.probs * (safe - selector.logits)).sum()
        return total / len(scores)


ANSWERS.accepted(
    lambda scores, attention, block_size: torch.einsum(
        "tb,tb->t", *with_tiny_floor(scores, attention, block_size)
    ).mean()
)


def with_tiny_floor(scores, attention, block_size):
    """The target, and log(target / selector), where 0 becomes the smallest number there is."""
    target, log_p, _ = parts(scores, attention, block_size)
    return target, target.clamp(min=torch.finfo(target.dtype).tiny).log() - log_p


@ANSWERS.refused("wrong way round", "the wrong way round", first=True)
def selector_first(scores, attention, block_size):
    target, log_p, seen = parts(scores, attention, block_size)
    p = log_p.exp() * seen
    return divergence(p, target.clamp(min=1e-8).log()).mean()


@ANSWERS.refused("sum, not mean", "mean over the tokens", first=True)
def summed_over_tokens(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return divergence(target, log_p).sum()


@ANSWERS.refused("mean over blocks", "divides by the blocks as well", first=True)
def mean_of_everything(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return F.kl_div(log_p, target, reduction="mean")


@ANSWERS.refused("kl_div misused", "log-probabilities first", first=True)
def kl_div_of_the_probabilities(scores, attention, block_size):
    target, log_p, seen = parts(scores, attention, block_size)
    return F.kl_div(log_p.exp() * seen, target, reduction="batchmean")


@ANSWERS.refused("kl_div misused", "log-probabilities first", first=True)
def kl_div_swapped(scores, attention, block_size):
    target, log_p, seen = parts(scores, attention, block_size)
    return F.kl_div(target, log_p.exp() * seen, reduction="batchmean")


@ANSWERS.refused("future leak", "later blocks", first=True)
def softmax_over_all_blocks(scores, attention, block_size):
    target, _, _ = parts(scores, attention, block_size)
    return F.kl_div(scores.log_softmax(dim=1), target, reduction="batchmean")


@ANSWERS.refused("own block left out", "own block counts", first=True)
def past_blocks_only(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    own = torch.arange(len(scores)) // block_size
    past = seen.scatter(1, own[:, None], False)
    log_p = scores.masked_fill(~past, -torch.inf).log_softmax(dim=1)
    return (torch.xlogy(target, target) - target * log_p)[past].sum() / len(scores)


@ANSWERS.refused("average, not sum", "*summed* over", first=True)
def target_is_an_average(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return divergence(target / block_size, log_p).mean()


@ANSWERS.refused("teacher not detached", "flows into the attention", first=True)
def teacher_learns_too(scores, attention, block_size):
    _, log_p, _ = parts(scores, attention, block_size)
    tokens, blocks = scores.shape
    target = F.pad(attention, (0, blocks * block_size - tokens)).unflatten(1, (blocks, block_size)).sum(dim=2)
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.refused("scores detached", "No gradient reaches the scores", first=True)
def a_plain_number(scores, attention, block_size):
    return torchs_kl_div(scores, attention, block_size).item()


@ANSWERS.refused("no entropy term", "cross-entropy", first=True)
def cross_entropy(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return -(target * log_p).sum(dim=1).mean()


@ANSWERS.refused("0 · log 0", "0 · (−∞)", first=True)
def log_of_zero(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return (target * (target.log() - log_p)).sum(dim=1).mean()


@ANSWERS.refused("mean over blocks", "the first axis")
def batchmean_of_blocks(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return F.kl_div(log_p.T, target.T, reduction="batchmean")


@ANSWERS.refused("no mean", "their mean over the tokens")
def one_loss_a_token(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return divergence(target, log_p)


@ANSWERS.refused("0 · log 0", "0 · (−∞)")
def minus_infinity_times_zero(scores, attention, block_size):
    """Knows 0 · log 0, and forgets the log-probability −∞ of later blocks."""
    target, _, seen = parts(scores, attention, block_size)
    log_p = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=1)
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.refused("0 · log 0", "0 · (−∞)")
def nan_in_the_gradient_alone(scores, attention, block_size):
    """The value is repaired afterwards."""
    target, _, seen = parts(scores, attention, block_size)
    p = scores.masked_fill(~seen, -torch.inf).softmax(dim=1)
    return torch.where(target > 0, target * (target / p).log(), 0).sum(dim=1).mean()


@ANSWERS.refused("underflow", "scores that lie far apart")
def logarithm_of_softmax(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    log_p = scores.masked_fill(~seen, -torch.inf).softmax(dim=1).masked_fill(~seen, 1).log()
    return divergence(target, log_p).mean()


@ANSWERS.refused("underflow", "scores that lie far apart")
def small_number_before_the_logarithm(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    p = scores.masked_fill(~seen, -torch.inf).softmax(dim=1)
    return (target * ((target + 1e-9) / (p + 1e-9)).log()).sum(dim=1).mean()


@ANSWERS.refused("underflow", "−1000 is not −∞")
def minus_a_thousand_for_later(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    return divergence(target, scores.masked_fill(~seen, -1000).log_softmax(dim=1)).mean()


@ANSWERS.refused("own block left out", "softmax over nothing")
def own_block_hidden_as_well(scores, attention, block_size):
    """NaN for every text: the first tokens are left with nothing."""
    target, _, _ = parts(scores, attention, block_size)
    past = torch.arange(scores.shape[1]) < torch.arange(len(scores))[:, None] // block_size
    return F.kl_div(scores.masked_fill(~past, -torch.inf).log_softmax(dim=1), target, reduction="batchmean")


@ANSWERS.refused("off by one", "gives later blocks no part")
def one_block_too_many(scores, attention, block_size):
    target, _, _ = parts(scores, attention, block_size)
    seen = torch.arange(scores.shape[1]) <= torch.arange(len(scores))[:, None] // block_size + 1
    log_p = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=1).masked_fill(~seen, 0)
    return divergence(target, log_p).mean()


@ANSWERS.refused("off by one", "pulls each score towards its target")
def first_token_left_out(scores, attention, block_size):
    target, log_p, _ = parts(scores, attention, block_size)
    return divergence(target, log_p)[1:].sum() / max(1, len(scores) - 1)


@ANSWERS.refused("wrong axis", "softmax runs over the tokens")
def softmax_over_tokens(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    log_p = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=0).masked_fill(~seen, 0)
    return divergence(target, log_p).mean()


@ANSWERS.refused("squares", "squared difference")
def mean_squared_error(scores, attention, block_size):
    target, log_p, seen = parts(scores, attention, block_size)
    return F.mse_loss(log_p.exp() * seen, target)


@ANSWERS.refused("0 for −∞", "have the score 0")
def later_scores_are_zero(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    return divergence(target, (scores * seen).log_softmax(dim=1)).mean()


@ANSWERS.refused("wrong sign", "wrong sign")
def negative(scores, attention, block_size):
    return -torchs_kl_div(scores, attention, block_size)


@ANSWERS.refused("scores detached", "What is detached")
def selector_detached_in_part(scores, attention, block_size):
    """As if the normalisation of the softmax were a constant."""
    target, log_p, seen = parts(scores, attention, block_size)
    fixed = (log_p - scores).detach()
    return divergence(target, (scores + fixed) * seen).mean()


@ANSWERS.refused("short last block", "raised RuntimeError")
def every_block_is_whole(scores, attention, block_size):
    target = attention.detach().unflatten(1, (-1, block_size)).sum(dim=2)
    _, log_p, _ = parts(scores, attention, block_size)
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.refused("half precision", "smells of precision")
def in_bfloat16(scores, attention, block_size):
    return torchs_kl_div(scores.bfloat16(), attention.bfloat16(), block_size).float()


@ANSWERS.refused("ignores scores", "0 where the scores say what attention does")
def distance_from_equal_shares(scores, attention, block_size):
    target, _, seen = parts(scores, attention, block_size)
    return divergence(target, -seen.sum(dim=1, keepdim=True).log()).mean()


@ANSWERS.refused("ignores attention", "p the *sum* of the attention")
def towards_equal_shares(scores, attention, block_size):
    _, log_p, seen = parts(scores, attention, block_size)
    return divergence(seen / seen.sum(dim=1, keepdim=True), log_p).mean()


@ANSWERS.refused("ignores block_size", "gives later blocks no part")
def blocks_of_two(scores, attention, block_size):
    return torchs_kl_div(scores, attention, 2)


@ANSWERS.refused("right shape, zeros", "your loss is 0")
def zero(scores, attention, block_size):
    return (0 * scores).sum()


@ANSWERS.refused("shown example only", "0 where the scores say what attention does")
def the_shown_answer(scores, attention, block_size):
    """Right for the shown example alone."""
    loss = torchs_kl_div(scores, attention, block_size)
    return loss if scores.shape == (5, 3) else loss + 1


@ANSWERS.refused("mutated input", "changes its second argument")
def floors_in_place(scores, attention, block_size):
    with torch.no_grad():
        attention.clamp_(min=1e-9)
    return torchs_kl_div(scores, attention, block_size)


@ANSWERS.refused("returns nothing", "Is a `return` missing?")
def nothing(scores, attention, block_size):
    torchs_kl_div(scores, attention, block_size)


def all_parts(scores, attention, block_size):
    """(target, log-probabilities, whether a block is later)."""
    tokens, blocks = scores.shape
    whole = F.pad(attention.detach(), (0, blocks * block_size - tokens))
    later = torch.arange(blocks) > torch.arange(tokens)[:, None] // block_size
    log_p = scores.masked_fill(later, -torch.inf).log_softmax(dim=1).masked_fill(later, 0)
    return whole.unflatten(1, (blocks, block_size)).sum(dim=2), log_p, later


@ANSWERS.refused("small targets dropped", "a small target counts", first=True)
def small_targets_are_nothing(scores, attention, block_size):
    target, log_p, _ = all_parts(scores, attention, block_size)
    return F.kl_div(log_p, torch.where(target < 3e-3, 0, target), reduction="batchmean")


@ANSWERS.refused("not −∞", "−1000 is not −∞", first=True)
def minus_ten_thousand_for_later_blocks(scores, attention, block_size):
    target, _, later = all_parts(scores, attention, block_size)
    log_p = scores.masked_fill(later, -1e4).log_softmax(dim=1).masked_fill(later, 0)
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.refused("teacher not detached", "The attention is the teacher", first=True)
def a_little_gradient_into_the_attention(scores, attention, block_size):
    target, log_p, _ = all_parts(scores, attention, block_size)
    return F.kl_div(log_p, target, reduction="batchmean") + 1e-6 * (attention - attention.detach()).sum()


@ANSWERS.refused("teacher not detached", "The attention is the teacher", first=True)
def leaves_a_gradient_behind(scores, attention, block_size):
    tokens, blocks = scores.shape
    whole = F.pad(attention, (0, blocks * block_size - tokens)).unflatten(1, (blocks, block_size)).sum(dim=2)
    target, log_p, _ = all_parts(scores, attention, block_size)
    F.kl_div(log_p.detach(), whole.clamp(min=1e-9), reduction="batchmean").backward()
    return F.kl_div(log_p, target, reduction="batchmean")


@ANSWERS.refused("backward inside", "is there a `backward()` in it?", first=True)
def goes_backward_itself(scores, attention, block_size):
    target, log_p, _ = all_parts(scores, attention, block_size)
    loss = F.kl_div(log_p, target, reduction="batchmean")
    loss.backward()
    return loss


@ANSWERS.refused("mutated input", "changes the caller's tensor", first=True)
def detaches_the_callers_tensor(scores, attention, block_size):
    target, log_p, _ = all_parts(scores, attention.detach_(), block_size)
    return F.kl_div(log_p, target, reduction="batchmean")
