"""Progress lines and the events file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core import events
from tunewright.core.events import Events, Progress, clock, read_events


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (3599.6, "1:00:00"), (7325, "2:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_progress_is_silent_at_first_then_says_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    progress = Progress("rows", 8)
    now[0] += 1.5
    progress.advance(1)
    assert capsys.readouterr().err == ""
    now[0] += 18.5
    progress.advance(3, note="loss 1")
    assert capsys.readouterr().err == "  rows: 4/8, 0:20 left  loss 1\n"
    waiting = Progress("latency", 1)
    now[0] += 12
    waiting.advance(0)
    assert capsys.readouterr().err == "  latency: 0/1, 0:12 so far\n"


def test_a_cut_last_line_of_events_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    written = Events(path)
    written.write("step", step=1, text="a\u2028b")
    written.write("step", step=2)
    with path.open("a") as handle:
        handle.write('{"event": "st')
    assert [row["step"] for row in read_events(path)] == [1, 2]
    assert read_events(path)[0]["text"] == "a\u2028b"
    assert read_events(tmp_path / "none") == []
