"""The launcher by itself, with ranks that need no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.core.errors import ResourceError
from tunewright.train.sharding import launcher

WRITE = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1] + os.environ['RANK'], 'w'))"
DRIVER = """
import os, sys
from tunewright.train.sharding import launcher
command = [sys.executable, "-c", sys.argv[1], *sys.argv[2:]]
raise SystemExit(launcher.launch(command, 2, environment=dict(os.environ), cores=4))
"""


def launch(code: str, *words: str, environment: dict[str, str] | None = None) -> int:
    base = dict(os.environ) if environment is None else environment
    return launcher.launch([sys.executable, "-c", code, *words], 2, environment=base, cores=4)


def test_ranks_get_the_variables_of_torchrun(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"RANK": "9"}
    assert launch(WRITE, f"{tmp_path}/", environment=environment) == 0
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert [(each["RANK"], each["LOCAL_RANK"], each["WORLD_SIZE"]) for each in found] == [
        ("0", "0", "2"),
        ("1", "1", "2"),
    ]
    assert found[0]["MASTER_ADDR"] == "127.0.0.1" and found[0]["MASTER_PORT"] == found[1]["MASTER_PORT"]
    assert found[0]["OMP_NUM_THREADS"] == "2", "four cores for two ranks"


def test_only_the_first_rank_prints(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        launch("import os, sys; print('out', os.environ['RANK']); sys.stderr.write('err ' + os.environ['RANK'])") == 0
    )
    assert capfd.readouterr() == ("out 0\n", "err 0")


def test_the_same_refusal_on_all_ranks_is_said_once() -> None:
    assert launch("raise SystemExit(2)") == 2
    assert launch("raise SystemExit(143)") == 143


def test_a_killed_rank_stops_the_others_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    code = "import os, signal, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"
    start = time.monotonic()
    with pytest.raises(ResourceError, match=r"rank 1 was killed by signal 9; the other ranks were stopped") as caught:
        launch(code)
    assert "goes on from the last whole checkpoint" in caught.value.fix
    assert time.monotonic() - start < 20


def test_a_fault_of_one_rank_is_shown() -> None:
    code = "import os, sys; sys.exit('error: the disk is full' if os.environ['RANK'] == '1' else 1)"
    with pytest.raises(ResourceError, match=r"rank 1 ended with exit code 1; .*It said:\nerror: the disk is full"):
        launch(code)


def test_the_first_rank_speaks_for_itself() -> None:
    """Rank 1 only noticed that rank 0 had ended."""
    code = f"import os, sys; sys.exit(1 if os.environ['RANK'] == '0' else 'error: rank 1 {launcher.LOST}')"
    assert launch(code) == 1


def test_a_signal_reaches_every_rank_once_and_is_waited_for(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; got = []; signal.signal(signal.SIGTERM, lambda *_: got.append(1))\n"
        "open(sys.argv[1] + 'up' + os.environ['RANK'], 'w').close()\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.5); open(sys.argv[1] + 'saved' + os.environ['RANK'], 'w').write(str(len(got))); sys.exit(143)"
    )
    process = subprocess.Popen([sys.executable, "-c", DRIVER, code, f"{tmp_path}/"], start_new_session=True)
    _wait_for([tmp_path / f"up{rank}" for rank in range(2)])
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert [(tmp_path / f"saved{rank}").read_text() for rank in range(2)] == ["1", "1"]


def test_ranks_do_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    code = "import os, sys, time; open(sys.argv[1] + os.environ['RANK'], 'w').write(str(os.getpid())); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", DRIVER, code, f"{tmp_path}/"], start_new_session=True)
    _wait_for([tmp_path / "0", tmp_path / "1"])
    time.sleep(0.1)
    ranks = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(_is_running(rank) for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(paths: list[Path]) -> None:
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.01)
