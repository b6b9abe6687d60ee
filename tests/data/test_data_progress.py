"""The progress of reading counts bytes of the files on disk, also of archives, whose rows are larger."""

from __future__ import annotations

import gzip
import json

import pytest

from tunewright.data import gather
from tunewright.data.disk_meter import DiskMeter
from tunewright.data.sources import locate_sources

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"question {n} " + "again " * 40},
            {"role": "assistant", "content": "ok"},
        ]
    }
    for n in range(4000)
]
PLAIN = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def zst(data):
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, "gz"), (zst, "zst")])
def test_bytes_of_an_archive_are_those_of_its_file(tmp_path, pack, suffix):
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(pack(PLAIN))
    assert path.stat().st_size * 20 < len(PLAIN), "the rows would count for far more"
    sources = locate_sources(tmp_path, (("shared", (path.name,)),), max_chars=10_000, encoding="auto")
    meter, positions = DiskMeter(), [0]
    for _ in gather.records_of(sources, 10_000, meter):
        positions.append(positions[-1] + meter.since(sources[0]))
    assert len(positions) == len(ROWS) + 1
    assert positions == sorted(positions), "never backwards"
    assert len(set(positions)) > 3, "in steps, not all at once"
    assert 0 < positions[1] < positions[-1] <= path.stat().st_size
    assert meter.since(sources[0]) == path.stat().st_size - positions[-1], "closed: read to its end"


class Recorded(gather.Progress):
    """Keeps the last one that was made."""

    def __init__(self, label, total):
        super().__init__(label, total)
        if label.startswith("reading"):
            Recorded.last = self


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stage_never_shows_more_than_there_is(run_data, monkeypatch, workers):
    monkeypatch.setattr(gather, "Progress", Recorded)
    files = {"a.jsonl.gz": gzip.compress(PLAIN[: len(PLAIN) // 2 + 1]), "b.jsonl": PLAIN[-40_000:].split(b"\n", 1)[1]}
    rules = [{"name": "roles"}]
    run_data(files, sources=list(files), workers=workers, rules=rules, max_quarantined=1.0)
    assert Recorded.last.total == sum(map(len, files.values()))
    assert 0.95 * Recorded.last.total <= Recorded.last.done <= Recorded.last.total
