from __future__ import annotations

import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.1")


@ANSWERS.accepted
def key_by_key(tokens, dim, budget):
    total = 0
    for token in range(tokens):
        for key in range(token + 1):
            if key < budget:
                total += dim  # q·k
                total += dim  # weight·v
    return total


@ANSWERS.accepted
def closed_form(tokens, dim, budget):
    full = min(tokens, budget)
    return dim * (full * (full + 1) + 2 * (tokens - full) * budget)


@ANSWERS.accepted
def counts_a_mask(tokens, dim, budget):
    back = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return 2 * dim * ((back >= 0) & (back < budget)).sum()


@ANSWERS.accepted
class AsAModule(nn.Module):
    def forward(self, tokens, dim, budget):
        return 2 * dim * torch.arange(1, tokens + 1).clamp(max=budget).sum().item()


@ANSWERS.accepted
def dense_without_what_is_dropped(tokens, dim, budget):
    dropped = max(tokens - budget, 0)
    return dim * (tokens * (tokens + 1) - dropped * (dropped + 1))


@ANSWERS.refused("half of it", "only once", first=True)
def queries_times_keys_only(tokens, dim, budget):
    return closed_form(tokens, dim, budget) // 2


@ANSWERS.refused("off by one", "leave the token itself out", first=True)
def earlier_tokens_only(tokens, dim, budget):
    return 2 * dim * sum(min(token, budget) for token in range(tokens))


@ANSWERS.refused("off by one", "besides the token itself", first=True)
def the_budget_and_itself(tokens, dim, budget):
    return 2 * dim * sum(min(token + 1, budget + 1) for token in range(tokens))


@ANSWERS.refused("early tokens", "every token a full budget", first=True)
def every_token_reads_a_full_budget(tokens, dim, budget):
    return 2 * dim * tokens * min(budget, tokens)


@ANSWERS.refused("ignores budget", "leave `budget` out", first=True)
def always_dense(tokens, dim, budget):
    return dim * tokens * (tokens + 1)


@ANSWERS.refused("future leak", "the future as well", first=True)
def not_causal(tokens, dim, budget):
    return 2 * dim * tokens * tokens


@ANSWERS.refused("ignores dim", "leave `dim` out", first=True)
def keys_read(tokens, dim, budget):
    return sum(min(token + 1, budget) for token in range(tokens))


@ANSWERS.refused("budget larger than the text", "more room than the text has tokens", first=True)
def only_for_small_budgets(tokens, dim, budget):
    return 2 * dim * (budget * (budget + 1) // 2 + (tokens - budget) * budget)


@ANSWERS.refused("early tokens", "every token a full budget")
def budget_times_tokens(tokens, dim, budget):
    return 2 * dim * tokens * budget


@ANSWERS.refused("counts twice", "a multiply-add is one")
def multiplications_and_additions(tokens, dim, budget):
    return 2 * closed_form(tokens, dim, budget)


@ANSWERS.refused("ignores dim", "leave `dim` out")
def keys_read_and_values_read(tokens, dim, budget):
    return 2 * keys_read(tokens, dim, budget)


@ANSWERS.refused("ignores tokens", "one token, the last")
def the_last_token_only(tokens, dim, budget):
    return 2 * dim * min(tokens, budget)


@ANSWERS.refused("ignores tokens", "A single token reads one key")
def as_if_the_text_were_one_budget_long(tokens, dim, budget):
    return dim * budget * (budget + 1)


@ANSWERS.refused("triangle off by one", "m·(m − 1)/2 is one short")
def short_triangle(tokens, dim, budget):
    full = min(tokens, budget)
    return dim * (full * (full - 1) + 2 * (tokens - full) * budget)


@ANSWERS.refused("counts too much", "Softmax and scaling")
def softmax_counted(tokens, dim, budget):
    return (2 * dim + 1) * keys_read(tokens, dim, budget)


@ANSWERS.refused("wrong factor", "dim multiply-adds for q·k")
def dim_squared(tokens, dim, budget):
    return 2 * dim**2 * keys_read(tokens, dim, budget)


@ANSWERS.refused("blocks for tokens", "Write down for each token")
def whole_budgets_only(tokens, dim, budget):
    """The first tokens are dense, and every later one reads the budget but for one key."""
    return 2 * dim * sum(token + 1 if token < budget else max(budget - 1, 1) for token in range(tokens))


@ANSWERS.refused("wrong dtype", "`//` in place of `/`")
def with_a_point(tokens, dim, budget):
    full = min(tokens, budget)
    return 2 * dim * (full * (full + 1) / 2 + (tokens - full) * budget)


@ANSWERS.refused("precision", "keeps a limited number of digits")
def added_up_in_float32(tokens, dim, budget):
    return int((2.0 * dim * torch.arange(1, tokens + 1).clamp(max=budget).float()).sum())


@ANSWERS.refused("half precision", "keeps a limited number of digits")
def added_up_in_half_precision(tokens, dim, budget):
    keys = torch.arange(1, tokens + 1).clamp(max=budget).to(torch.bfloat16).sum()
    return 2 * dim * int(keys)


@ANSWERS.refused("overflow", "int32 ends near two billion")
def in_int32(tokens, dim, budget):
    keys = torch.arange(1, tokens + 1, dtype=torch.int32).clamp(max=budget)
    return (2 * dim * keys).sum(dtype=torch.int32)


@ANSWERS.refused("right for the example only", "same answer whatever it is given")
def the_shown_answer(tokens, dim, budget):
    return 168


@ANSWERS.refused("right kind, zero", "all zeros")
def zero(tokens, dim, budget):
    return 0


@ANSWERS.refused("one sum too few", "one number")
def one_for_each_token(tokens, dim, budget):
    return 2 * dim * torch.arange(1, tokens + 1).clamp(max=budget)


@ANSWERS.refused("wrong type", "returns a list")
def list_of_counts(tokens, dim, budget):
    return [2 * dim * min(token + 1, budget) for token in range(tokens)]


@ANSWERS.refused("wrong type", "returns a str")
def as_text(tokens, dim, budget):
    return f"{closed_form(tokens, dim, budget):,}"


@ANSWERS.refused("returns nothing", "returns nothing")
def forgets_to_return(tokens, dim, budget):
    total = 0
    for token in range(tokens):
        total += 2 * dim * min(token + 1, budget)


@ANSWERS.refused("NaN", "NaN")
def share_of_what_is_dropped(tokens, dim, budget):
    """Takes a share of dense attention, and the share of nothing is not a number."""
    dropped = torch.tensor(float(max(tokens - budget, 0)))
    return 2 * dim * tokens * dropped / dropped


@ANSWERS.refused("precision", "floating point", first=True)
def summed_in_float32(tokens, dim, budget):
    return 2 * dim * int(torch.arange(1, tokens + 1).float().clamp(max=budget).sum())


@ANSWERS.accepted
def halves_with_a_point(tokens, dim, budget):
    rising = min(tokens, budget)
    return int(2 * dim * (rising * (rising + 1) / 2 + (tokens - rising) * budget))


@ANSWERS.refused("overflow", "runs over", first=True)
def counted_in_int32(tokens, dim, budget):
    keys = torch.arange(1, tokens + 1, dtype=torch.int32).clamp(max=budget)
    return int((keys * 2 * (dim % 2**31)).sum(dtype=torch.int32))
