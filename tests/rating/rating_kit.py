"""Pools, votes and running pages for the tests of rating."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunewright.rating.study import DIMENSIONS, Item, Judgement, Pool, Source, Turn, Vote

HOSTILE = '<script>document.title = "taken"</script> <b>bold</b> & **stars** </textarea> "quoted" 价格：37.5 元'


def make_pool(items: int = 12, systems: Sequence[str] = ("base", "tuned")) -> Pool:
    """Items `q0`, `q1`, ... whose answers name item and system, so that a test sees who is who."""
    found = [
        Item(
            id=f"q{number}",
            turns=(Turn(role="user", content=f"question {number}"),),
            reference=f"reference {number}",
            answers={system: f"answer {number} of {system[::-1]}" for system in systems},
            metadata={"domain": "bank"},
            origin={"path": "a.jsonl", "sha256": "0" * 64, "split": ""},
        )
        for number in range(items)
    ]
    source = Source(path="a.jsonl", sha256="0" * 64, systems=tuple(systems))
    return Pool(systems=tuple(systems), items=tuple(found), sources=(source,))


def write_answers(folder: Path, items: int = 12, systems: Sequence[str] = ("alpha", "beta")) -> list[Path]:
    """One JSONL file a system; item 0 has a hostile answer."""
    paths = []
    for system in systems:
        rows = [
            {
                "id": f"q{number}",
                "prompt": f"我的卡丢了，怎么办？ question {number}",
                "reference": f"reference {number}",
                "prediction": HOSTILE if number == 0 else f"answer {number} of {system}\nsecond line",
            }
            for number in range(items)
        ]
        paths.append(folder / f"{system}.jsonl")
        paths[-1].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return paths


def said(
    preference: str = "tie",
    left: int = 1,
    right: int = 1,
    *,
    note: str = "",
    corrected: Mapping[str, str] | None = None,
) -> Judgement:
    """A judgement with the same level in every dimension of a side."""
    levels = {"left": dict.fromkeys(DIMENSIONS, left), "right": dict.fromkeys(DIMENSIONS, right)}
    return Judgement(preference, levels, note, dict(corrected or {}))


def vote(item: int, rater: str, outcome: str, **given: object) -> Vote:
    """A vote on base (left) and tuned (right); given: levels of base and tuned, position, repeat_of."""
    values = {"base": 1, "tuned": 1, "position": item, "repeat_of": None, "number": item + 1, **given}
    preference = {"base": "left", "tuned": "right"}.get(outcome, outcome)
    judgement = said(preference, int(str(values["base"])), int(str(values["tuned"])))
    if outcome == "skip":
        judgement = Judgement("skip")
    repeat = values["repeat_of"]
    return Vote(
        int(str(values["number"])),
        rater,
        item,
        f"q{item}",
        int(str(values["position"])),
        None if repeat is None else int(str(repeat)),
        "base",
        "tuned",
        judgement,
        "2026-11-26T00:00:00.000+00:00",
    )


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """`tunewright rate WORDS` in a process of its own: (URL, what it printed so far, the process)."""
    command = [sys.executable, "-m", "tunewright", "rate", *words, "rate.port=0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        printed = ""
        assert process.stderr is not None
        for line in process.stderr:
            printed += line
            if url := re.search(r"http://[\w.-]+:\d+", line):
                break
        else:
            raise AssertionError(f"the page did not start:\n{printed}")
        yield url[0], printed, process
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stderr is not None
        process.stderr.close()
