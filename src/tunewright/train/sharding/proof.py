"""Before the first step: are ranks, weights and rows divided as the plan says? Never a silent fall-back.

A library that ignores a setting trains on happily: N models that each see all rows, or whole weights on every device.
So what lies on each rank is counted, and what each rank will read is compared, before anything is trained.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
import torch.distributed as dist
from torch import Tensor

from tunewright.core.errors import ResourceError
from tunewright.train.sharding.strategy import Held, Strategy
from tunewright.train.sharding.world import World

Shares = Sequence[Sequence[int]]
"""Rows of each optimizer step."""


class NotAsPlanned(ResourceError):
    """The ranks do not do what the plan says. Nothing was trained."""


def digest(weights: Mapping[str, Tensor]) -> str:
    """One hash over names and values."""
    found = hashlib.sha256()
    for name in sorted(weights):
        part = weights[name].detach().cpu().contiguous()
        found.update(name.encode())
        found.update(part.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def prove_ranks(world: World) -> None:
    """Every rank is there once, on a device of its own. Raises NotAsPlanned."""
    size = dist.get_world_size()
    if size != world.size:
        raise _fault(f"{size} ranks train, and {world.size} were started")
    place = f"{os.uname().nodename}:{torch.cuda.current_device() if torch.cuda.is_available() else os.getpid()}"
    seen = world.gather((world.rank, place))
    check_ranks(seen, size=world.size)


def check_ranks(seen: Sequence[tuple[int, str]], *, size: int) -> None:
    """seen: (rank, its device) of all. Raises NotAsPlanned."""
    if sorted(rank for rank, _ in seen) != list(range(size)):
        raise _fault(f"the ranks are {sorted(rank for rank, _ in seen)}, not 0 to {size - 1}")
    if len({place for _, place in seen}) != size:
        raise _fault("two ranks are on the same device")


def prove_start(world: World, weights: Mapping[str, Tensor]) -> None:
    """Every rank begins with the same weights. Raises NotAsPlanned."""
    if len(set(world.gather(digest(weights)))) > 1:
        raise _fault("the ranks begin with different weights", fix="give all machines the same base model and versions")


def check_shares(plan: Shares, shares: Sequence[Shares]) -> None:
    """Each row of each step is computed by exactly one rank. shares: by rank. Raises NotAsPlanned."""
    for step, rows in enumerate(plan):
        dealt = [row for share in shares for row in share[step]] if all(len(s) == len(plan) for s in shares) else []
        if sorted(dealt) == sorted(rows):
            continue
        twice = sorted({row for row in dealt if dealt.count(row) > rows.count(row)})
        problem = f"row {twice[0]} on more than one rank" if twice else "rows that no rank computes"
        raise _fault(f"step {step + 1} would have {problem}", fix="give all machines the same data artifact")


def check_held(held: Sequence[Held], *, weights: Mapping[str, int], divides: frozenset[str], tensors: int) -> None:
    """Together the ranks hold a divided part once, and the others once each.

    held: by rank; weights: elements of the whole model for each part of `Held`; tensors: how many there are, each of
    which may be padded to a multiple of the ranks. Raises NotAsPlanned.
    """
    ranks = len(held)
    for part, whole in weights.items():
        copies = 1 if part in divides else ranks
        found = sum(asdict(each)[part] for each in held)
        padding = ranks * (tensors + 64)
        if not copies * whole <= found <= copies * whole + padding:
            raise _fault(
                f"{ranks} ranks hold {found:,} elements of '{part}', and {copies * whole:,} were planned "
                f"({'divided' if copies == 1 else 'whole on each'})"
            )


def sentence(strategy: Strategy, world: World, held: Sequence[Held]) -> str:
    """What was proven, for the screen."""
    where = "NCCL on GPUs" if torch.cuda.is_available() else "gloo on CPU"
    most = {part: max(asdict(each)[part] for each in held) for part in ("trained", "frozen", "optimizer")}
    return (
        f"{world.size} ranks ({where}), {strategy.text}: a rank holds {most['trained']:,} trained and "
        f"{most['frozen']:,} frozen weights and the optimizer's state of {most['optimizer']:,}; "
        "each row of each step is computed once"
    )


def _fault(problem: str, *, fix: str = "") -> NotAsPlanned:
    return NotAsPlanned(
        f"{problem}; stopped before the first step",
        where="train.sharding",
        fix=fix or "start the ranks with `tunewright train PROJECT.yaml --launch N`",
    )
