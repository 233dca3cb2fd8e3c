from __future__ import annotations

import torch

from tests.course.rejections import Answers

ANSWERS = Answers("02.5")


def own_choices(scores, top_k, capacity):
    """Choices that fit, −1 for the others, and the room that is left."""
    chosen = scores.topk(top_k).indices
    came = torch.nn.functional.one_hot(chosen.flatten(), scores.shape[1]).cumsum(0)
    place = came.gather(1, chosen.flatten()[:, None]).view_as(chosen) - 1
    placed = chosen.where(place < capacity, -1)
    return placed, capacity - came[-1].clamp(max=capacity)


def sent_on(scores, top_k, capacity, *, order="forward", candidates=None):
    placed, room = own_choices(scores, top_k, capacity)
    tokens = list(range(len(scores)))
    for token in tokens if order == "forward" else tokens[::-1]:
        liked = scores[token].argsort(descending=True).tolist()
        further = candidates(liked) if candidates else liked[top_k:]
        for slot in range(top_k):
            free = [one for one in further if room[one] > 0 and one not in placed[token]]
            if placed[token, slot] < 0 and free:
                placed[token, slot] = free[0]
                room[free[0]] -= 1
    return placed


@ANSWERS.accepted
def by_cumulative_sum(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity)


@ANSWERS.accepted
def with_masked_scores(scores, top_k, capacity):
    placed, room = own_choices(scores, top_k, capacity)
    open_ = scores.scatter(1, scores.topk(top_k).indices, -torch.inf)
    for token, slot in (placed < 0).nonzero().tolist():
        row = open_[token].masked_fill(room == 0, -torch.inf)
        if row.max() > -torch.inf:
            best = int(row.argmax())
            placed[token, slot], open_[token, best] = best, -torch.inf
            room[best] -= 1
    return placed


@ANSWERS.accepted
def in_plain_python(scores, top_k, capacity):
    lists = [sorted(enumerate(row), key=lambda pair: pair[1], reverse=True) for row in scores.tolist()]
    load, out, lost = {}, [], []
    for token, liked in enumerate(lists):
        out.append([])
        for slot, (expert, _) in enumerate(liked[:top_k]):
            fits = load.get(expert, 0) < capacity
            load[expert] = load.get(expert, 0) + fits
            out[token].append(expert if fits else -1)
            if not fits:
                lost.append((token, slot))
    for token, slot in lost:
        for expert, _ in lists[token][top_k:]:
            if load.get(expert, 0) < capacity and expert not in out[token]:
                out[token][slot] = expert
                load[expert] = load.get(expert, 0) + 1
                break
    return torch.tensor(out, dtype=torch.int16)


@ANSWERS.refused("drops", "You drop what finds no room", first=True)
def dropped(scores, top_k, capacity):
    return own_choices(scores, top_k, capacity)[0]


@ANSWERS.refused("wrong order", "take room from those who wanted", first=True)
def one_token_after_the_other(scores, top_k, capacity):
    room, out = torch.full((scores.shape[1],), capacity), torch.full((len(scores), top_k), -1)
    for token, liked in enumerate(scores.argsort(dim=1, descending=True)):
        best = liked[room[liked] > 0][:top_k]
        out[token, : len(best)] = best
        room[best] -= 1
    return out


@ANSWERS.refused("no limit", "room for", first=True)
def unlimited(scores, top_k, capacity):
    return scores.topk(top_k).indices


@ANSWERS.refused("no limit the second time", "room for", first=True)
def next_choice_whether_there_is_room_or_not(scores, top_k, capacity):
    placed, _ = own_choices(scores, top_k, capacity)
    if top_k == scores.shape[1]:
        return placed
    following = scores.topk(top_k + 1).indices[:, -1:]
    return torch.where((placed < 0) & ((placed < 0).cumsum(1) == 1), following, placed)


@ANSWERS.refused("gives up early", "to the end", first=True)
def one_further_choice_only(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity, candidates=lambda liked: liked[top_k : top_k + 1])


@ANSWERS.refused("off by one", "room for", first=True)
def one_too_many(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity + 1)


@ANSWERS.refused("off by one", "serves own choices")
def one_too_few(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity - 1)


@ANSWERS.refused("wrong order", "send later tokens on first")
def last_token_sent_on_first(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity, order="backward")


@ANSWERS.refused("wrong order", "has not chosen yet", first=True)
def to_the_lowest_with_room(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity, candidates=lambda liked: liked[top_k:][::-1])


@ANSWERS.refused("wrong order", "has not chosen yet")
def to_the_first_number_with_room(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity, candidates=lambda liked: sorted(liked[top_k:]))


@ANSWERS.refused("wrong order", "all first choices")
def round_by_round_and_dropped(scores, top_k, capacity):
    chosen = scores.topk(top_k).indices
    flat = chosen.T.flatten()
    came = torch.nn.functional.one_hot(flat, scores.shape[1]).cumsum(0).gather(1, flat[:, None])[:, 0]
    return chosen.where(capacity >= came.view(top_k, -1).T, -1)


@ANSWERS.refused("same expert twice", "none twice for a token")
def its_own_again(scores, top_k, capacity):
    """Looks for room among all experts, those that the token has already included."""
    placed, room = own_choices(scores, top_k, capacity)
    for token, slot in (placed < 0).nonzero().tolist():
        liked = scores[token].argsort(descending=True)
        free = liked[room[liked] > 0]
        if len(free):
            placed[token, slot] = free[0]
            room[free[0]] -= 1
    return placed


@ANSWERS.refused("moved up", "in its own place")
def filled_from_the_left(scores, top_k, capacity):
    placed, rows = sent_on(scores, top_k, capacity), []
    own = own_choices(scores, top_k, capacity)[0]
    for row, kept in zip(placed.tolist(), own.tolist(), strict=True):
        new = [one for one, was in zip(row, kept, strict=True) if was < 0]
        rows.append(new + [one for one in kept if one >= 0])
    return torch.tensor(rows)


@ANSWERS.refused("wrong padding", "existing experts")
def minus_two_for_none(scores, top_k, capacity):
    placed = sent_on(scores, top_k, capacity)
    return placed.where(placed >= 0, -2)


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(scores, top_k, capacity):
    return torch.zeros(len(scores), top_k, dtype=torch.long)


@ANSWERS.refused("nobody is placed", "serves own choices")
def none_of_them(scores, top_k, capacity):
    return torch.full((len(scores), top_k), -1)


@ANSWERS.refused("ignores top_k", "(tokens, top_k)")
def one_choice(scores, top_k, capacity):
    return sent_on(scores, 1, capacity).flatten()


@ANSWERS.refused("changed input", "changes its first argument")
def scores_blanked_in_place(scores, top_k, capacity):
    placed = sent_on(scores, top_k, capacity)
    scores.scatter_(1, placed.clamp(min=0), -torch.inf)
    return placed


@ANSWERS.refused("wrong type", "returns a list")
def lists(scores, top_k, capacity):
    return sent_on(scores, top_k, capacity).tolist()


@ANSWERS.refused("room lost at the end", "has room. Walk on", first=True)
def takes_room_from_nobody(scores, top_k, capacity):
    """Takes one off the room of the last expert whenever nobody has room."""
    lists = scores.argsort(dim=1, descending=True).tolist()
    room, placed = [capacity] * scores.shape[1], []
    for liked in lists:
        placed.append([])
        for expert in liked[:top_k]:
            fits = room[expert] > 0
            room[expert] -= fits
            placed[-1].append(expert if fits else -1)
    for row, liked in zip(placed, lists, strict=True):
        further = iter(liked[top_k:])
        for slot in range(top_k):
            if row[slot] < 0:
                row[slot] = next((expert for expert in further if room[expert] > 0), -1)
                room[row[slot]] -= 1
    return torch.tensor(placed)


def sent_on_by_masks(scores, top_k, capacity, blank, squash=lambda x: x):
    placed, room = own_choices(scores, top_k, capacity)
    open_ = squash(scores).scatter(1, scores.topk(top_k).indices, blank)
    for token, slot in (placed < 0).nonzero().tolist():
        row = open_[token].masked_fill(room == 0, blank)
        if row.max() > blank:
            best = int(row.argmax())
            placed[token, slot], open_[token, best] = best, blank
            room[best] -= 1
    return placed


@ANSWERS.refused("a finite blank", "Walk on down its list", first=True)
def blanks_of_minus_hundred(scores, top_k, capacity):
    return sent_on_by_masks(scores, top_k, capacity, -100.0)


@ANSWERS.refused("a finite blank", "Walk on down its list", first=True)
def blanks_of_minus_a_billion(scores, top_k, capacity):
    return sent_on_by_masks(scores, top_k, capacity, -1e9)


@ANSWERS.refused("squashed scores", "highest score", first=True)
def lists_by_softmax(scores, top_k, capacity):
    return sent_on_by_masks(scores, top_k, capacity, -1.0, lambda x: x.softmax(1))


@ANSWERS.refused("sent on from the end", "takes from the end", first=True)
def lost_choices_popped(scores, top_k, capacity):
    placed, room = own_choices(scores, top_k, capacity)
    lists, lost = scores.argsort(dim=1, descending=True).tolist(), (placed < 0).nonzero().tolist()
    while lost:
        token, slot = lost.pop()
        further = [e for e in lists[token][top_k:] if room[e] > 0 and e not in placed[token].tolist()]
        if further:
            placed[token, slot] = further[0]
            room[further[0]] -= 1
    return placed


def sent_on_in_order(scores, top_k, capacity, order):
    placed, room = own_choices(scores, top_k, capacity)
    lists = scores.argsort(dim=1, descending=True).tolist()
    for token, slot in order((placed < 0).nonzero().tolist()):
        further = [e for e in lists[token][top_k:] if room[e] > 0 and e not in placed[token].tolist()]
        if further:
            placed[token, slot] = further[0]
            room[further[0]] -= 1
    return placed


@ANSWERS.refused("sent on slot by slot", "Earlier tokens are sent on", first=True)
def first_slots_sent_on_first(scores, top_k, capacity):
    return sent_on_in_order(scores, top_k, capacity, lambda lost: sorted(lost, key=lambda pair: pair[1]))


@ANSWERS.refused("who lost most first", "Earlier tokens are sent on", first=True)
def who_lost_most_is_sent_on_first(scores, top_k, capacity):
    def most(lost):
        many = {token: sum(1 for other, _ in lost if other == token) for token, _ in lost}
        return sorted(lost, key=lambda pair: -many[pair[0]])

    return sent_on_in_order(scores, top_k, capacity, most)


@ANSWERS.refused("another sign for lost", "or −1", first=True)
def the_number_of_experts_for_lost(scores, top_k, capacity):
    placed = with_masked_scores(scores, top_k, capacity)
    return placed.masked_fill(placed < 0, scores.shape[1])


@ANSWERS.refused("another sign for lost", "or −1", first=True)
def a_huge_number_for_lost(scores, top_k, capacity):
    placed = with_masked_scores(scores, top_k, capacity)
    return placed.masked_fill(placed < 0, 2**61)


@ANSWERS.refused("found by its score", "First come all tokens' own", first=True)
def found_by_value_in_the_whole_table(scores, top_k, capacity):
    """Looks a score up among those of all tokens."""
    flat, experts = scores.flatten().tolist(), scores.shape[1]
    lists = [[flat.index(value) % experts for value in sorted(row, reverse=True)] for row in scores.tolist()]
    alike = torch.tensor([[-liked.index(e) if e in liked else -experts for e in range(experts)] for liked in lists])
    return with_masked_scores(alike.float(), top_k, capacity)
