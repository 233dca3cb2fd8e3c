"""02.5: room for so many tokens an expert; who finds none is sent on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def reroute(scores: Float[Tensor, "tokens experts"], top_k: int, capacity: int) -> Int[Tensor, "tokens top_k"]:
    """Own choices first, in order; then each token that lost some walks on down its list. −1 for what found no room."""
    return _sent_on(scores, top_k, capacity, range(len(scores)))


def _sent_on(scores: Tensor, top_k: int, capacity: int, order: Iterable[int]) -> Tensor:
    lists = [sorted(range(len(row)), key=lambda one, row=row: -row[one]) for row in scores.tolist()]
    room = [capacity] * scores.shape[1]
    placed = [[_take(expert, room) for expert in liked[:top_k]] for liked in lists]
    for token in order:
        row, further = placed[token], iter(lists[token][top_k:])
        for slot in range(top_k):
            if row[slot] < 0:
                row[slot] = next((expert for expert in further if _take(expert, room) >= 0), -1)
    return torch.tensor(placed)


def _take(expert: int, room: list[int]) -> int:
    if room[expert] == 0:
        return -1
    room[expert] -= 1
    return expert


SCORES = {
    "asked twice": [[4, 1, 0], [-2, 2, -4], [3, -6, -3], [5, -1, -5]],  # the last place is lost when all are full
    "below −100": [[3, 2, -105], [4, 1, -106]],
    "below −1e9": [[3, 2, -1e12], [4, 1, -2e12]],
    "far apart": [[50, 1, -70, -90], [50, 1, -90, -70]],
    "of equal height": [[1, 2, 3], [3, 2, 1]],
    "a later one lost more": [[9, 8, 1, 2, 3], [9, 1, 8, 5, 4], [9, 8, 1, 5, 4]],
}


def build(tokens: int, experts: int, top_k: int, capacity: int, kind: str, seed: int) -> tuple[Tensor, int, int]:
    """Scores without ties in a token, of any sign; "crowded" if all tokens like the same experts; those of SCORES."""
    if kind in SCORES:
        return torch.tensor(SCORES[kind], dtype=torch.float), top_k, capacity
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(tokens * experts, generator=generator).argsort().view(tokens, experts).float()
    scores = (scores - tokens * experts / 2) / 8
    if kind == "crowded":
        scores = scores / tokens + 2 * experts * torch.randperm(experts, generator=generator)
    return scores, 1 + (top_k - 1) % experts, capacity


def _limited(call: Call) -> bool:
    found = call.got[call.got >= 0]
    loads = torch.bincount(found.flatten(), minlength=call["scores"].shape[1])
    return bool((loads <= call["capacity"]).all())


def _are_experts(call: Call) -> bool:
    rows = [[one for one in row if one != -1] for row in call.got.tolist()]
    many = call["scores"].shape[1]
    return all(len(set(row)) == len(row) and all(0 <= one < many for one in row) for row in rows)


def _own_choices_kept(call: Call) -> bool:
    """Whether each choice that fits, first come first served, stands in its own place."""
    dropped = _dropped(*call.arguments.values())
    return torch.equal(call.got[dropped >= 0], dropped[dropped >= 0])


def _none_lost_beside_room(call: Call) -> bool:
    """Whether each −1 stands where all experts that the token could be sent to have got ``capacity`` tokens."""
    scores = call["scores"]
    full = torch.bincount(call.got[call.got >= 0], minlength=scores.shape[1]) >= call["capacity"]
    chosen = scores.topk(call["top_k"]).indices.tolist()
    return all(
        full[expert] or expert in own or expert in row
        for own, row in zip(chosen, call.got.tolist(), strict=True)
        if -1 in row
        for expert in range(len(full))
    )


def _right(call: Call) -> bool:
    return torch.equal(call.got, call.expected)


def _dropped(scores: Tensor, top_k: int, capacity: int) -> Tensor:
    """Without a second chance."""
    room = [capacity] * scores.shape[1]
    chosen = scores.topk(top_k).indices.tolist()
    return torch.tensor([[_take(expert, room) for expert in row] for row in chosen])


def _in_one_go(scores: Tensor, top_k: int, capacity: int) -> Tensor:
    """Token by token, each with its second chance before the next has its first."""
    room, rows = [capacity] * scores.shape[1], []
    for liked in scores.argsort(dim=1, descending=True).tolist():
        row = [expert for expert in liked if room[expert] > 0][:top_k]
        for expert in row:
            room[expert] -= 1
        rows.append(row + [-1] * (top_k - len(row)))
    return torch.tensor(rows)


def _backwards(scores: Tensor, top_k: int, capacity: int) -> Tensor:
    return _sent_on(scores, top_k, capacity, reversed(range(len(scores))))


def _popped(scores: Tensor, top_k: int, capacity: int) -> Tensor:
    """The last lost choice first, within a token, too."""
    lists = scores.argsort(dim=1, descending=True).tolist()
    placed, room = _dropped(scores, top_k, capacity), [capacity] * scores.shape[1]
    for expert in placed[placed >= 0].tolist():
        room[expert] -= 1
    further = [iter(liked[top_k:]) for liked in lists]
    for token, slot in reversed((placed < 0).nonzero().tolist()):
        placed[token, slot] = next((expert for expert in further[token] if _take(expert, room) >= 0), -1)
    return placed


def _first_choices_first(scores: Tensor, top_k: int, capacity: int) -> Tensor:
    """Own choices round by round."""
    room = [capacity] * scores.shape[1]
    chosen = scores.topk(top_k).indices
    return torch.stack([torch.tensor([_take(one, room) for one in column]) for column in chosen.T.tolist()], dim=1)


EXERCISE = Exercise(
    id="02.5",
    title="No room? Next door",
    minutes=30,
    difficulty=3,
    function="reroute",
    right=reroute,
    draw=st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 6)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(("plain", "crowded")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (40, 8, 2, 10, "plain", 0),
        (40, 8, 2, 11, "crowded", 1),
        (30, 6, 3, 4, "crowded", 2),
        (24, 9, 4, 12, "plain", 3),
        (9, 4, 4, 5, "plain", 4),
        (4, 3, 2, 2, "asked twice", 5),
        (2, 3, 2, 1, "below −100", 6),
        (2, 3, 2, 1, "below −1e9", 7),
        (2, 4, 2, 1, "far apart", 8),
        (2, 3, 1, 1, "of equal height", 9),
        (3, 5, 2, 1, "a later one lost more", 10),
    ),
    build=build,
    axes="(tokens, top_k)",
    shown=(4, 3, 1, 2, "crowded", 1),
    behaviours=(
        Behaviour(
            "names existing experts, none twice for a token",
            _are_experts,
            "A token's places hold different experts, or −1. Those it chose itself, the full ones too, are no next "
            "choice.",
        ),
        Behaviour(
            "gives no expert more tokens than it has room for",
            _limited,
            "Count what each expert has got so far. Once that is `capacity`, it takes nobody, from whichever list.",
        ),
        Behaviour(
            "serves own choices before anybody is sent on",
            _own_choices_kept,
            "First come all tokens' own `top_k` choices, token by token, best first, as long as there is room; each "
            "stands in its own place. Only after that are the others sent on.",
        ),
        Behaviour(
            "loses no choice while there is room",
            _none_lost_beside_room,
            "A place holds −1 only if no expert that the token has not chosen yet has room. Walk on down its list to "
            "the end.",
        ),
        Behaviour(
            "sends them to the best that has room, in the order of the tokens",
            _right,
            "Earlier tokens are sent on first. Each takes, of the experts with room that it has not chosen yet, the "
            "one with its highest score.",
        ),
    ),
    slips=(
        Slip(
            gives(_dropped),
            "You drop what finds no room. Give it a second chance: the token's next experts, in the order of its "
            "scores.",
        ),
        Slip(
            gives(_in_one_go),
            "You send a token on before later ones have made their own choice, and so take room from those who wanted "
            "it first. Go twice through the tokens: all own choices, then all that were lost.",
        ),
        Slip(
            gives(_first_choices_first),
            "You let all first choices come before all second ones. Own choices come token by token.",
        ),
        Slip(gives(_popped), "You send the last lost choice on first: `pop()` takes from the end. Begin at the front."),
        Slip(gives(_backwards), "You send later tokens on first. Earlier tokens are sent on before them."),
    ),
    done="Fewer are dropped, and nothing is free: a next choice suits the token less, and its expert gets fuller. (The "
    "library asks rank by rank, not token by token, which needs no loop over tokens.)",
)
