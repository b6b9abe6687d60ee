"""The reader's memory does not grow with the file or with its longest line: peak of a process of its own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
LIMIT_MB = 200
READ = """
import re, sys
from pathlib import Path
from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.rows import inspect, read_rows
path = Path(sys.argv[1])
layout = inspect(path, max_chars=1_000_000)
rows = usable = 0
for row in read_rows(path, source="x", layout=layout, max_chars=1_000_000):
    rows += 1
    if not isinstance(row.content, Rejection):
        usable += not isinstance(build(recognise(row.content.value)), Rejection)
def peak():  # the peak of getrusage starts at that of the process which started this one
    return re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(rows, usable, peak())
"""
PAIR = {"question": "q" * 500, "answer": "好" * 500}
ROW = json.dumps(PAIR, ensure_ascii=False).encode() + b"\n"
MB = 10**6


def peak(path):
    """(rows, usable rows, peak of the process in MB) of reading `path`."""
    done = subprocess.run([sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True)
    rows, usable, kilobytes = map(int, done.stdout.split())
    return rows, usable, kilobytes / 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Peak for a file of two rows, in MB."""
    path = tmp_path_factory.mktemp("small") / "x.jsonl"
    path.write_bytes(ROW * 2)
    return peak(path)[2]


def write(path, kind, size):
    """About `size` MB of rows, or one line of that size between two rows; returns how many rows."""
    count = size * MB // len(ROW)
    pretty = json.dumps(PAIR, ensure_ascii=False, indent=1).encode()
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as handle:
        if kind == "line":
            handle.write(ROW)
            for _ in range(size):
                handle.write(b"x" * MB)
            handle.write(b"\n" + ROW)
            return 3
        before, row, after = {
            "jsonl": (b"", ROW, b""),
            "array": (b"[", ROW[:-1] + b",\n", ROW + b"]"),
            "objects": (b"", pretty + b"\n", b""),
            "csv": (b"question,answer\n", ('"' + "question\n" * 20 + '",' + "好" * 300 + "\n").encode(), b""),
        }[kind]
        handle.write(before)
        for _ in range(count):
            handle.write(row)
        handle.write(after)
        return count + (kind == "array")


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("x.jsonl", "line", 100),
        ("x.jsonl.gz", "line", 100),
        ("x.csv", "csv", 20),
        ("x.json", "array", 20),
        ("x.jsonl", "objects", 20),
    ],
)
def test_peak_is_that_of_a_small_file(tmp_path, small, name, kind, size):
    expected = write(tmp_path / name, kind, size)
    rows, usable, megabytes = peak(tmp_path / name)
    assert rows == expected
    assert usable == (2 if kind == "line" else expected)
    assert megabytes < small + LIMIT_MB


def test_peak_does_not_grow_with_the_file(tmp_path, small, soak):
    path = tmp_path / "x.jsonl"
    expected = write(path, "jsonl", 400 if soak else 60)
    rows, usable, megabytes = peak(path)
    assert rows == usable == expected
    assert megabytes < small + LIMIT_MB


def test_the_measure_sees_memory(tmp_path, small):
    """The same process with the file held in memory is over the limit, so the tests above can fail."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(ROW * 2)
    code = READ + "\nheld = bytearray(b'x') * 300_000_000\n"
    code += "print(peak())"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) / 1024 > small + LIMIT_MB
