"""A program on a leash ends with the process that started it, also after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tunewright.core.leash import KEPT_LINES, Leashed

SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
OWNER = (
    "import sys, time; from tunewright.core.leash import Leashed;"
    "kept = Leashed([sys.executable, '-c', sys.argv[1], sys.argv[2]]);"
    "print(kept.process_id, flush=True); time.sleep(600)"
)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def gone(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text() != "", "the program runs")
    return int(path.read_text())


def test_the_last_lines_and_the_exit_code_are_told() -> None:
    code = "import sys; [print('line', n) for n in range(1000)]; sys.exit(7)"
    kept = Leashed([sys.executable, "-c", code])
    until(lambda: kept.exit_code is not None, "it ends")
    lines = kept.said().splitlines()
    assert kept.exit_code == 7 and lines[-1] == "line 999" and len(lines) == KEPT_LINES
    kept.stop()


def test_a_signal_is_a_negative_code_and_a_missing_program_is_told() -> None:
    kept = Leashed([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    until(lambda: kept.exit_code is not None, "it ends")
    assert kept.exit_code == -signal.SIGKILL
    missing = Leashed(["no-such-program"])
    until(lambda: missing.exit_code is not None, "it ends")
    assert missing.exit_code == 127 and "no-such-program" in missing.said()


def test_stop_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
    kept = Leashed([sys.executable, "-c", nested, SLEEPER, str(tmp_path / "pid")])
    inner = pid_in(tmp_path / "pid")
    kept.stop()
    assert kept.exit_code == -signal.SIGTERM
    until(lambda: gone(inner), "the grandchild ends too")


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
    kept = Leashed([sys.executable, "-c", stubborn, str(tmp_path / "pid")])
    inner = pid_in(tmp_path / "pid")
    kept.stop(timeout_s=0.5)
    until(lambda: gone(inner), "the kernel ends it with its holder")


@pytest.mark.parametrize("who", ["owner", "holder"])
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a killed holder takes the program along on Linux only"
)
def test_nothing_outlives_a_kill_9(tmp_path: Path, who: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, SLEEPER, str(tmp_path / "pid")], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    holder, inner = int(owner.stdout.readline()), pid_in(tmp_path / "pid")
    os.kill(owner.pid if who == "owner" else holder, signal.SIGKILL)
    until(lambda: gone(inner), "the program ends")
    owner.kill()
    owner.wait()
    until(lambda: gone(holder), "its holder ends")
