"""A program of somebody else on a leash: it ends when this process ends, however that happens.

Between the two stands a small process (this very file, run as a program) that holds one end of a pipe. When the pipe
closes, because `stop` was called or because this process is gone (kill -9 too), it ends the program and everything the
program started. When the small process itself is killed, the kernel ends the program (Linux: PR_SET_PDEATHSIG). Only
the last lines that the program printed are kept, so that nothing grows while it runs.

This file imports the standard library only: it is run by its path, without the environment's packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

KEPT_LINES = 200
KEPT_BYTES = 2000
"""Of one line."""
GRACE_S = 5.0
"""Between SIGTERM and SIGKILL."""
_SET_DEATH_SIGNAL = 1


class Leashed:
    """A running program. env: what its environment has beside ours; secrets belong there, never into `words`, which
    everybody on the machine can read."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the program)
        self._lines = ""
        self._holder = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *words],
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # a Ctrl-C in the terminal is for us: we drain first
        )

    @property
    def process_id(self) -> int:
        """Of the holder; the program is its child."""
        return self._holder.pid

    @property
    def exit_code(self) -> int | None:
        """Of the program; None while it runs, negative for a signal."""
        code = self._holder.poll()
        return code if code is None or code <= 128 else 128 - code

    def said(self) -> str:
        """The last lines that the program printed; empty before it has ended."""
        if not self._said.closed:
            self._said.seek(0)
            self._lines = self._said.read().decode("utf-8", "replace")
        return self._lines

    def stop(self, timeout_s: float = 2 * GRACE_S) -> None:
        """Ends the program: asks it, then kills it. Harmless when it has ended."""
        assert self._holder.stdin is not None
        with contextlib.suppress(OSError):
            self._holder.stdin.close()
        try:
            self._holder.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._holder.kill()  # and the kernel kills the program
            self._holder.wait()
        self.said()
        self._said.close()


def _hold(words: Sequence[str]) -> int:
    """Runs `words` until it ends or the pipe on stdin closes; prints its last lines, returns its exit code as a
    shell would."""
    try:
        program = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dying_with_parent(),  # this process has one thread until now
        )
    except OSError as error:
        sys.stdout.write(f"{words[0]}: {error.strerror}\n")
        return 127
    lines: deque[bytes] = deque(maxlen=KEPT_LINES)
    reader = threading.Thread(target=_keep_last, args=(program, lines), daemon=True)
    reader.start()
    threading.Thread(target=_end_with_pipe, args=(program,), daemon=True).start()
    code = program.wait()
    reader.join(1.0)  # a grandchild may hold the pipe open
    _signal_group(program.pid, signal.SIGKILL)
    sys.stdout.buffer.write(b"".join(lines))
    sys.stdout.flush()
    return code if code >= 0 else 128 - code


def _dying_with_parent() -> Callable[[], None] | None:
    """What the forked child does before it becomes the program; the C library is loaded before the fork."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return lambda: library.prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL)) and None


def _keep_last(program: subprocess.Popen[bytes], lines: deque[bytes]) -> None:
    assert program.stdout is not None
    while line := program.stdout.readline(KEPT_BYTES):
        lines.append(line)


def _end_with_pipe(program: subprocess.Popen[bytes]) -> None:
    """Waits for the end of the pipe; then the program and all of its group end."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _signal_group(program.pid, signal.SIGTERM)
    try:
        program.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal_group(program.pid, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    raise SystemExit(_hold(sys.argv[1:]))
