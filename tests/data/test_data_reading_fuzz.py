"""Valid files that were damaged: no crash, every line accounted for, every text writable as UTF-8.

5,000 damaged files; 100,000 with `pytest --soak`.
"""

from __future__ import annotations

import gzip
import json
import random

import pytest

from tunewright.core.errors import TunewrightError
from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.lines import Lines
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.streams import open_bytes

MAX_CHARS = 400

TURNS = [{"role": "user", "content": '余额"查询\\ 😀'}, {"role": "assistant", "content": "好:\n是"}]
OTHERS = [
    {"messages": TURNS, "id": 7, "score": 3.50, "metadata": {"n": [1, 0.5, None]}, "tools": '[{"name": "f"}]'},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
    {"instruction": "i", "input": "n", "output": "o", "history": [["q", "a"]]},
    {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": {"role": "assistant", "content": "b"}},
    {"messages": TURNS, "label": True},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
            {"role": "tool_call", "content": '{"name": "f"}'},
        ]
    },
    {"conversation": '[{"role": "user", "content": 1}]', "x": "\\ud83d"},
    {"code": "X", "byte_offset": 1, "raw": 'question,answer\n"q, r",a'},
]
LINES = "\n".join(json.dumps(row, ensure_ascii=place % 2 > 0) for place, row in enumerate(OTHERS)).encode()
PRETTY = "\n".join(json.dumps(row, ensure_ascii=False, indent=1) for row in OTHERS[:4]).encode()
TABLE = '问题,answer,x\n"如何, ""更换""\n密码",设置,1\n第二行,好的,\n\n第三行,"a,b",c\n'
SEEDS = {
    "a.jsonl": LINES,
    "b.jsonl": PRETTY + b"\n" + LINES[:400],
    "c.json": json.dumps(OTHERS, ensure_ascii=False, indent=1).encode(),
    "d.csv": TABLE.encode("utf-8-sig"),
    "e.csv": TABLE.encode("gb18030"),
    "f.tsv": TABLE.replace(",", "\t").encode("utf-16"),
    "g.jsonl": LINES.decode().encode("utf-16"),
    "h.json": json.dumps(OTHERS, ensure_ascii=False).encode("gb18030"),
    "i.jsonl.gz": gzip.compress(LINES, mtime=0),
    "j.txt": b"# comment\n\n" + LINES,
}
PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b"NaN",
    b"1e999",
    b'""',
    b";",
    b"\\ud83d",
]


def damage(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, pieces cut out, doubled, moved, or put in."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at, length = chance.randrange(len(found) + 1), chance.choice([1, 1, 3, 20, 200])
        kind = chance.randrange(5)
        if kind == 0 and found:
            found[min(at, len(found) - 1)] = chance.randrange(256)
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = chance.choice(PIECES)
        elif kind == 3:
            other = chance.randrange(len(found) + 1)
            found[at:at] = found[other : other + length]
        elif chance.random() < 0.2:
            del found[at:]
    return bytes(found)


def writable(*values):
    json.dumps(values, ensure_ascii=False, default=str).encode()


def through(path):
    """Reads a file as the stage does and checks what it gives. Number of usable rows; None where it is refused."""
    try:
        layout = inspect(path, max_chars=MAX_CHARS)
        rows = list(read_rows(path, source=path.name, layout=layout, max_chars=MAX_CHARS))
    except TunewrightError as error:
        writable(str(error))
        return None
    usable = 0
    for row in rows:
        writable(row.raw, row.id)
        content = row.content if isinstance(row.content, Rejection) else recognise(row.content.value)
        draft = content if isinstance(content, Rejection) else build(content)
        if isinstance(draft, Rejection):
            writable(draft.code, draft.reason, draft.excerpt)
            assert draft.reason and len(draft.excerpt) <= 200
            continue
        usable += 1
        writable([turn.model_dump() for turn in draft.turns], draft.metadata)
        writable([(note.code, note.reason, note.excerpt) for note in (*row.content.notes, *draft.notes)])
        json.dumps(draft.metadata, allow_nan=False)
    check_books(path, layout, rows)
    return usable


def check_books(path, layout, rows):
    """Every line that is not blank belongs to exactly one row (or the header); elements of an array do not overlap."""
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    if layout.shape == "array":
        ends = [row.place.byte_offset + row.size for row in rows]
        assert all(end <= row.place.byte_offset for end, row in zip(ends, rows[1:], strict=False))
        return
    taken = [line for row in rows for line in range(row.place.line, row.place.line + row.record.lines)]
    assert len(taken) == len(set(taken))
    with open_bytes(path, layout.compression) as handle:
        for line in Lines(handle, layout.encoding, 10_000):
            text = line.data.decode(layout.encoding, "replace").strip("\ufeff").strip()
            if text and line.number > layout.header_lines:
                assert line.number in taken, (line.number, text)


@pytest.mark.parametrize("name", SEEDS)
def test_the_seeds_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SEEDS[name])
    assert through(path) >= 2


def test_damaged_files_never_crash_the_reader(tmp_path, soak):
    chance = random.Random(20)
    names = list(SEEDS)
    usable = refused = 0
    for _ in range(100_000 if soak else 5_000):
        name = chance.choice(names)
        path = tmp_path / name
        path.write_bytes(damage(SEEDS[name], chance))
        found = through(path)
        usable, refused = usable + (found or 0), refused + (found is None)
    assert usable > 5_000  # the damage leaves most rows as they were
    assert refused > 50
