from __future__ import annotations

import heapq

import torch

from dslearn.moe import place_experts
from tests.course.rejections import Answers

ANSWERS = Answers("02.7")


def copies_of(load, total):
    copies = torch.ones(len(load), dtype=torch.long)
    for _ in range(total - len(load)):
        copies[(torch.tensor(load).double() / copies).argmax()] += 1
    return copies


def packed(load, copies, num_gpus, slots, *, key=None):
    """Copies in falling order of ``key``, else of their share, each into the lightest GPU with a slot."""
    share = torch.tensor(load).double() / copies
    experts = torch.arange(len(load)).repeat_interleave(copies)
    order = (share if key is None else key)[experts].sort(descending=True, stable=True).indices
    gpus, filled = [[] for _ in range(num_gpus)], [0.0] * num_gpus
    for expert in experts[order].tolist():
        gpu = min((one for one in range(num_gpus) if len(gpus[one]) < slots), key=lambda one: filled[one])
        gpus[gpu].append(expert)
        filled[gpu] += float(share[expert])
    return torch.tensor(gpus)


@ANSWERS.accepted
def with_tensors(load, num_gpus, slots):
    return packed(load, copies_of(load, num_gpus * slots), num_gpus, slots)


@ANSWERS.accepted
def with_heaps(load, num_gpus, slots):
    waiting = [(-one, expert, 1) for expert, one in enumerate(load)]
    heapq.heapify(waiting)
    for _ in range(num_gpus * slots - len(load)):
        _, expert, copies = heapq.heappop(waiting)
        heapq.heappush(waiting, (-load[expert] / (copies + 1), expert, copies + 1))
    gpus, free = [[] for _ in range(num_gpus)], [(0.0, gpu) for gpu in range(num_gpus)]
    for share, expert, copies in sorted(waiting):
        for _ in range(copies):
            filled, gpu = heapq.heappop(free)
            gpus[gpu].append(expert)
            if len(gpus[gpu]) < slots:
                heapq.heappush(free, (filled - share, gpu))
    return torch.tensor(gpus)


@ANSWERS.accepted
def by_the_library(load, num_gpus, slots):
    placement = place_experts(
        torch.tensor(load), num_replicas=num_gpus * slots, num_groups=1, num_nodes=1, num_gpus=num_gpus
    )
    return placement.physical_to_logical.view(num_gpus, slots)


@ANSWERS.refused("whole load for a share", "divide by the copies", first=True)
def second_copies_for_the_busiest(load, num_gpus, slots):
    spare, copies = num_gpus * slots - len(load), torch.ones(len(load), dtype=torch.long)
    order = torch.tensor(load).argsort(descending=True, stable=True)
    for at in range(spare):
        copies[order[at % len(load)]] += 1
    return packed(load, copies, num_gpus, slots)


@ANSWERS.refused("all to one", "another becomes the one", first=True)
def all_copies_for_the_busiest(load, num_gpus, slots):
    copies = torch.ones(len(load), dtype=torch.long)
    copies[torch.tensor(load).argmax()] += num_gpus * slots - len(load)
    return packed(load, copies, num_gpus, slots)


@ANSWERS.refused("not sorted", "order of their numbers", first=True)
def packed_by_number(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    return packed(load, copies, num_gpus, slots, key=-torch.arange(len(load)))


@ANSWERS.refused("whole load for a share", "half of it each", first=True)
def every_copy_with_the_whole_load(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    experts = [one for one in range(len(load)) for _ in range(copies[one])]
    experts.sort(key=lambda one: -load[one])
    gpus = [[] for _ in range(num_gpus)]
    for expert in experts:
        gpu = min((g for g in range(num_gpus) if len(gpus[g]) < slots), key=lambda g: sum(load[e] for e in gpus[g]))
        gpus[gpu].append(expert)
    return torch.tensor(gpus)


@ANSWERS.refused("dealt out", "in turns", first=True)
def dealt_like_cards(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    share = torch.tensor(load).double() / copies
    experts = torch.arange(len(load)).repeat_interleave(copies)
    order = share[experts].sort(descending=True, stable=True).indices
    return experts[order].view(slots, num_gpus).T


@ANSWERS.refused("dealt out", "busier", first=True)
def back_and_forth(load, num_gpus, slots):
    """Deals in a snake: forth, then back."""
    table = dealt_like_cards(load, num_gpus, slots).T.clone()
    table[1::2] = table[1::2].flip(1)
    return table.T


@ANSWERS.refused("side by side", "busier")
def neighbours_share_a_gpu(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    return torch.arange(len(load)).repeat_interleave(copies).view(num_gpus, slots)


@ANSWERS.refused("idle experts", "an idle one too", first=True)
def idle_experts_left_out(load, num_gpus, slots):
    copies = torch.tensor([int(one > 0) for one in load])
    for _ in range(num_gpus * slots - int(copies.sum())):
        share = torch.where(copies > 0, torch.tensor(load).double() / copies.clamp(min=1), -1)
        copies[share.argmax()] += 1
    experts = torch.arange(len(load)).repeat_interleave(copies)
    return experts.view(num_gpus, slots)


@ANSWERS.refused("copies by share of the load", "one at a time")
def copies_in_proportion(load, num_gpus, slots):
    """The spare slots by rounded shares of the load, the rest to the busiest."""
    spare = num_gpus * slots - len(load)
    copies = 1 + (spare * torch.tensor(load).double() / max(sum(load), 1)).long()
    copies[torch.tensor(load).argmax()] += num_gpus * slots - copies.sum()
    return packed(load, copies, num_gpus, slots)


@ANSWERS.refused("off by one", "one at a time", first=True)
def divided_by_the_copies_to_come(load, num_gpus, slots):
    copies = torch.ones(len(load), dtype=torch.long)
    for _ in range(num_gpus * slots - len(load)):
        copies[(torch.tensor(load).double() / (copies + 1)).argmax()] += 1
    return packed(load, copies, num_gpus, slots)


@ANSWERS.refused("wrong way round", "one at a time")
def copies_for_the_idlest(load, num_gpus, slots):
    copies = torch.ones(len(load), dtype=torch.long)
    for _ in range(num_gpus * slots - len(load)):
        copies[(torch.tensor(load).double() / copies).argmin()] += 1
    return packed(load, copies, num_gpus, slots)


@ANSWERS.refused("wrong order", "busier")
def lightest_first(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    return packed(load, copies, num_gpus, slots, key=-torch.tensor(load).double() / copies)


@ANSWERS.refused("fullest GPU", "busier")
def into_the_gpu_with_most_slots(load, num_gpus, slots):
    """Goes by free slots, which is dealing out once more, from the other end."""
    return (
        dealt_like_cards(load, num_gpus, slots).flip(0) if slots % 2 else neighbours_share_a_gpu(load, num_gpus, slots)
    )


@ANSWERS.refused("rounded", "busier")
def shares_rounded_down(load, num_gpus, slots):
    """Divides with `//`, so that near loads become equal ones."""
    copies = copies_of(load, num_gpus * slots)
    return packed(load, copies, num_gpus, slots, key=torch.tensor(load) // copies)


@ANSWERS.refused("no copies", "shape")
def one_slot_an_expert(load, num_gpus, slots):
    return torch.tensor([[expert] for expert in range(len(load))])


@ANSWERS.refused("wrong axis", "shape")
def slots_first(load, num_gpus, slots):
    return with_tensors(load, num_gpus, slots).T


@ANSWERS.refused("right shape, zeros", "without a place")
def zeros(load, num_gpus, slots):
    return torch.zeros(num_gpus, slots, dtype=torch.long)


@ANSWERS.refused("loads for numbers", "numbers of experts")
def the_loads(load, num_gpus, slots):
    return 7 + torch.tensor(load)[with_tensors(load, num_gpus, slots)]


@ANSWERS.refused("changed input", "changes its first argument")
def load_changed(load, num_gpus, slots):
    placed = with_tensors(load, num_gpus, slots)
    load.sort()
    return placed


@ANSWERS.refused("wrong type", "returns a list")
def lists(load, num_gpus, slots):
    return with_tensors(load, num_gpus, slots).tolist()


@ANSWERS.refused("rounded", "one at a time", first=True)
def copies_by_whole_division(load, num_gpus, slots):
    copies = [1] * len(load)
    for _ in range(num_gpus * slots - len(load)):
        copies[max(range(len(load)), key=lambda one: load[one] // copies[one])] += 1
    return packed(load, torch.tensor(copies), num_gpus, slots)


@ANSWERS.refused("of equals the last", "one at a time", first=True)
def the_last_of_equals_gets_a_copy(load, num_gpus, slots):
    copies = [1] * len(load)
    for _ in range(num_gpus * slots - len(load)):
        copies[max(reversed(range(len(load))), key=lambda one: load[one] / copies[one])] += 1
    return packed(load, torch.tensor(copies), num_gpus, slots)


@ANSWERS.refused("of equals the last", "lower number", first=True)
def the_last_of_equal_copies_first(load, num_gpus, slots):
    copies = copies_of(load, num_gpus * slots)
    share = torch.tensor(load).double() / copies
    return packed(load, copies, num_gpus, slots, key=share - 1e-9 * share * torch.arange(len(load)).flip(0))


@ANSWERS.refused("of equals the last", "the first one is taken", first=True)
def the_last_of_equally_light_gpus(load, num_gpus, slots):
    return packed(load, copies_of(load, num_gpus * slots), num_gpus, slots).flip(0)
