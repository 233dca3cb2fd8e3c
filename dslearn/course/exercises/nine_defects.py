"""01.6: the article's listing, repaired; its nine defects show one by one."""

from __future__ import annotations

from hypothesis import strategies as st

from dslearn.course.exercise import Behaviour, Exercise
from dslearn.course.exercises import nine_defects_reads as reads
from dslearn.course.exercises.nine_defects_calls import ask, build, edges, keys, repaired_attention
from dslearn.course.exercises.nine_defects_slips import SLIPS

EXERCISE = Exercise(
    id="01.6",
    title="Nine defects",
    minutes=40,
    difficulty=3,
    function="repaired_attention",
    right=repaired_attention,
    draw=st.sampled_from(keys()),
    edges=tuple(edges()),
    build=build,
    axes="(batch, tokens, heads · dim)",
    shown=("weights", 1, 4, 1, 4, 2, 8),
    ask=ask,
    judges_nan=True,
    behaviours=(
        Behaviour(
            "1 · multiplies the features of a query with the same features of a key",
            reads.same_features,
            "The second text has the features of q and k in reverse order, which leaves q·k as it is. "
            "`transpose(-2, -1)` swaps features with heads, so that other things meet.",
        ),
        Behaviour(
            "2 · lets tokens read other tokens",
            reads.reads_others,
            "No token sees another. A score is due for every pair of tokens; in `bnhd,bnhd->bnh` query and key both "
            "carry the letter `n`, so a token meets its own key alone.",
        ),
        Behaviour(
            "3 · chooses among tokens, in each head for itself",
            reads.heads_apart,
            "The second head has no values, yet its scores change what the first one reads: the best are taken along "
            "the axis of heads, or for all heads together. Choose along the axis of the tokens that are read.",
        ),
        Behaviour(
            "4 · reads something in short texts, too",
            reads.short_texts,
            "A share of a short text is a budget of nothing, `int(3 * 0.3)` is 0: how many tokens may be read is given "
            "as `budget`, which may be more than there are: `min(budget, tokens)`. Each token, the first one too, may "
            "at least read itself; if one that has a budget reads nothing, `>` threw it away, which is defect 5.",
        ),
        Behaviour(
            "5 · keeps exactly the budget: no fewer, no more, ties or not",
            reads.as_many_as_the_budget,
            "The values are 0 and 1, so you see the weights: a row with enough tokens up to it has `budget` of them. "
            "The threshold is the last score to keep: `>` throws that one away, `>=` keeps all that tie with it, and "
            "softmax still reads a dropped score of 0.",
        ),
        Behaviour(
            "6 · weighs what it keeps by the softmax of q·k/√dim",
            reads.softmax_of_the_kept,
            "The values are 0 and 1, so you see the weights: compare the last row. Divide q·k, without the selector, "
            "by √dim, give −∞ to the dropped, and take the softmax over the tokens that are read.",
        ),
        Behaviour(
            "7 · lays the heads side by side",
            reads.side_by_side,
            "Only the first head has values, so the right half of each row is 0. If heads are summed away (`->bnd`) "
            "or lie in another order, it is not: keep the axis `h` as (batch, tokens, heads, dim), flatten at the end.",
        ),
        Behaviour(
            "8 · lets the selector decide what is kept",
            reads.selector_decides,
            "The last token keeps others than it should. For the choice, and only for it, the query is multiplied by "
            "the head's row of `selector` before it meets the keys.",
        ),
        Behaviour(
            "9a · reads nothing that comes later",
            reads.nothing_later,
            "The values are 0 and 1, so you see the weights, and those above the diagonal are of later "
            "tokens. Give these the choice score −∞, and mask again after `topk`: early tokens have fewer to choose.",
        ),
        Behaviour(
            "9b · always reads itself",
            reads.reads_itself,
            "A weight on the diagonal is 0: that token dropped itself. It is always kept, whatever its own score.",
        ),
        Behaviour(
            "9c · ends with the output projection, and gives the right numbers",
            reads.is_right,
            "What single texts can show is right, the whole is not. Does each head use its own row of `selector`, does "
            "each text of the batch stay by itself, is the budget kept in every head, is the result multiplied by "
            "`w_out`?",
        ),
        Behaviour(
            "9d · leaves the values of dropped tokens alone",
            reads.leaves_the_rest_alone,
            "One value is NaN. It comes out of the rows that keep its token, and of no other: 0 · NaN is NaN. Whoever "
            "multiplies everything and masks has saved nothing. Fetch the kept values, for example with `gather`.",
        ),
    ),
    slips=SLIPS,
    done="All nine are gone, if you *fetched* the kept values rather than blanking out the rest. What is left of the "
    "ninth is the choice: it still scores every pair of tokens, which blocks and the tree are there for.",
)
