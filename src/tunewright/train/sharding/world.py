"""The ranks of one training: who this process is, and how the ranks agree.

A rank is a process that torchrun, `tunewright train --launch` or a job file started with torchrun's variables (RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). Small messages travel over gloo, also beside NCCL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tunewright.core.errors import ConfigError, ResourceError
from tunewright.train.sharding.launcher import LOST

ItemT = TypeVar("ItemT")
PATIENCE = timedelta(days=7)
"""How long a rank waits for another that lives: saving and measuring take as long as they take. One that has ended
closes its connection, which is noticed at once."""
_LOST = re.compile(r"connection (closed|reset|refused)|closed by peer|broken pipe|gloo|nccl|TCPStore", re.I)


@dataclass(frozen=True)
class World:
    """rank of size; local_rank: on this machine, which is also its GPU. `group`: gloo, for small messages; None where
    one process is alone and nothing has to be agreed."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks, decides and writes what all share."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no launcher started this process."""
        return self.group is None

    def gather(self, item: ItemT) -> list[ItemT]:
        """Each rank's item, by rank, on every rank."""
        if self.is_alone:
            return [item]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, item, group=self.group)
        return found

    def share(self, item: ItemT) -> ItemT:
        """The first rank's item, on every rank."""
        if self.is_alone:
            return item
        held = [item]
        dist.broadcast_object_list(held, src=0, group=self.group)
        return held[0]

    def sum(self, value: float) -> float:
        """The sum over the ranks in float64, the same bits on each."""
        return sum(self.floats(value))

    def floats(self, value: float) -> list[float]:
        """Each rank's number, by rank; cheaper than `gather`."""
        if self.is_alone:
            return [value]
        mine = torch.tensor([value], dtype=torch.float64)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine, group=self.group)
        return [float(each) for each in found]

    def wait(self) -> None:
        """Until every rank is here."""
        if not self.is_alone:
            dist.barrier(group=self.group)

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Inside, the first rank works alone; the others follow and find what it has fetched or cached."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


ALONE = World()


def launched() -> int:
    """How many ranks a launcher has started; 0 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "0")) if "RANK" in os.environ and "LOCAL_RANK" in os.environ else 0


def is_follower() -> bool:
    """Whether this process is a rank beside the first: it prints no result."""
    return launched() > 0 and int(os.environ["RANK"]) > 0


@contextmanager
def joined(*, is_sharded: bool) -> Iterator[World]:
    """The world of this process while it trains. is_sharded: whether `train.sharding` is set.

    Raises ConfigError where launcher and project file disagree, ResourceError when another rank has ended.
    """
    ranks = launched()
    if not is_sharded:
        if ranks > 1:
            raise ConfigError(
                f"{ranks} processes were started, but train.sharding is not set: each would train the whole",
                fix="add train.sharding.name=ddp, or start one process",
            )
        yield ALONE
        return
    if not ranks:
        raise ConfigError(
            "train.sharding needs a process for each device, and this is a single one without a launcher",
            fix="`tunewright train PROJECT.yaml --launch 2` starts two here, or add train.sharding=null",
        )
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    starts = not dist.is_initialized()
    try:
        if starts:
            _start(local_rank)
        yield World(rank, ranks, local_rank, dist.new_group(backend="gloo", timeout=PATIENCE))
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        raise ResourceError(
            f"rank {rank} {LOST}, which has probably ended",
            fix="look at what the other rank said; the same command goes on from the last checkpoint",
        ) from None
    finally:
        if starts and dist.is_initialized():
            dist.destroy_process_group()


def _start(local_rank: int) -> None:
    """Joins the process group: NCCL on GPUs, one each, gloo on CPU."""
    if not torch.cuda.is_available():
        dist.init_process_group("gloo", timeout=PATIENCE)
        return
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(
            f"rank {local_rank} of this machine has no GPU: there are {count}", fix=f"--launch {count} or fewer"
        )
    torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl", device_id=torch.device("cuda", local_rank))
