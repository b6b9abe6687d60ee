"""`tunewright train --launch N`: a process a device on this machine, started with torchrun's variables.

torchrun would do, but it ends its processes 30 seconds after a signal, saved or not, and speaks in tracebacks. Here a
signal goes to every rank once, each saves, and a rank that dies stops the others. Loads no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

from tunewright.core.errors import ResourceError
from tunewright.core.listen import free_port
from tunewright.train.worker import die_with_parent

GRACE_S = 20.0
"""How long the other ranks get to notice that one has ended, before they are killed."""
POLL_S = 0.1
TAIL = 12
LOST = "has lost the connection to another rank"
"""What a rank says that ends because another has."""


@dataclass
class Rank:
    """A started process and, beside the first, the file with what it writes to stderr."""

    number: int
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None

    def tail(self) -> str:
        """The last lines it wrote; empty for the first rank, whose lines are on the screen."""
        if self.said is None:
            return ""
        self.said.seek(0)
        return "\n".join(self.said.read().decode("utf-8", "replace").strip().splitlines()[-TAIL:])


def launch(command: Sequence[str], ranks: int, *, environment: Mapping[str, str], cores: int) -> int:
    """Runs `command` as `ranks` ranks; returns the first rank's exit code. stdout and stderr are the first rank's.

    cores: of this machine, shared by the ranks where OMP_NUM_THREADS is not set. Raises ResourceError, with what it
    said, when a rank ends that the others did not follow.
    """
    with ExitStack() as stack:
        started: list[Rank] = []
        stack.callback(lambda: _kill(started))
        stack.enter_context(_forwarding(started))
        port = free_port()
        for number in range(ranks):
            variables = variables_of(number, ranks, port) | {"OMP_NUM_THREADS": str(max(1, cores // ranks))}
            said = stack.enter_context(tempfile.TemporaryFile()) if number else None
            process = subprocess.Popen(
                list(command),
                env={**variables, **environment, **variables_of(number, ranks, port)},
                stdout=subprocess.DEVNULL if number else None,
                stderr=said,
                start_new_session=True,  # Ctrl-C reaches each rank once: from here
                preexec_fn=die_with_parent,
            )
            started.append(Rank(number, process, said))
        return _verdict(_watch(started), started)


def variables_of(rank: int, ranks: int, port: int) -> dict[str, str]:
    """torchrun's, for one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _watch(started: Sequence[Rank]) -> list[Rank]:
    """Until all have ended; when one ends badly, those still there after GRACE_S are killed. Returns those that ended
    badly by themselves."""
    deadline = float("inf")
    while True:
        codes = [rank.process.poll() for rank in started]
        failed = [rank for rank, code in zip(started, codes, strict=True) if code]
        if None not in codes:
            return failed
        if failed and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_S
        if time.monotonic() > deadline:
            _kill(started)
            return failed
        time.sleep(POLL_S)


def _verdict(failed: Sequence[Rank], started: Sequence[Rank]) -> int:
    """The first rank's exit code where all failed alike, or it alone: it has said why."""
    first = started[0].process.returncode
    killed = next((rank for rank in failed if rank.process.returncode < 0), None)
    alone = next((rank for rank in failed if rank.number and LOST not in rank.tail()), None)
    culprit = killed or (alone if started[0] not in failed or first == 1 else None)
    if culprit is None and first < 0:  # it hung and was killed here
        culprit = failed[0]
    if culprit is None:
        return int(first)
    code = culprit.process.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = culprit.tail()
    raise ResourceError(
        f"rank {culprit.number} {how}; the other ranks were stopped" + (f". It said:\n{said}" if said else ""),
        fix="the same command goes on from the last whole checkpoint, nothing before it is lost",
    )


@contextmanager
def _forwarding(started: Sequence[Rank]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM go to every rank, and this process waits for them to save."""

    def forward(number: int, _: FrameType | None) -> None:
        for rank in started:
            if rank.process.poll() is None:
                rank.process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(started: Sequence[Rank]) -> None:
    for rank in started:
        if rank.process.poll() is None:
            rank.process.kill()
            rank.process.wait()


def cores_of_this_machine() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
