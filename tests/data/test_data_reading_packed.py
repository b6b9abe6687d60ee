"""Archives around any file, Parquet, and what is refused: always one clear sentence, never half a file."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import zipfile

import pytest

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError
from tunewright.data.findings import Rejection
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.strict_json import NonFinite, SourceNumber

LINES = b"".join(b'{"question": "q%d", "answer": "a"}\n' % n for n in range(3000))


def gz(data):
    return gzip.compress(data)


def zst(data):
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor().compress(data)


@pytest.fixture
def read(tmp_path):
    """(layout, rows) of bytes in a file of this name."""

    def rows(data, name, **settings):
        path = tmp_path / name
        path.write_bytes(data)
        layout = inspect(path, max_chars=settings.setdefault("max_chars", 10_000))
        return layout, list(read_rows(path, source=name, layout=layout, **settings))

    return rows


@pytest.mark.parametrize(("pack", "suffix", "kind"), [(gz, "gz", "gzip"), (zst, "zst", "zstd")])
@pytest.mark.parametrize(
    ("data", "name", "shape"),
    [
        (LINES, "x.jsonl", "jsonl"),
        (b'[{"a": "1"},\n{"a": "2"}]', "x.json", "array"),
        (json.dumps({"a": "1"}, indent=1).encode(), "x.json", "objects"),
        ("问题,回答\n银行卡丢了怎么办,请立即挂失\n".encode("gb18030"), "x.csv", "csv"),
        ('{"a": "余"}\n'.encode("utf-16"), "x.jsonl", "jsonl"),
    ],
)
def test_archives_are_read_as_what_they_hold(read, pack, suffix, kind, data, name, shape):
    plain_layout, plain = read(data, name)
    layout, rows = read(pack(data), f"{name}.{suffix}")
    assert (layout.shape, layout.encoding, layout.compression) == (shape, plain_layout.encoding, kind)
    assert [(row.content, row.place.line, row.place.byte_offset, row.size, row.raw) for row in rows] == [
        (row.content, row.place.line, row.place.byte_offset, row.size, row.raw) for row in plain
    ]


@pytest.mark.parametrize("pack", [gz, zst])
def test_archives_of_several_parts_and_without_a_name(read, pack):
    _, rows = read(pack(LINES) + pack(LINES), "x.jsonl")
    assert len(rows) == 6000


@pytest.mark.parametrize(("pack", "suffix"), [(gz, "gz"), (zst, "zst")])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_a_cut_archive_is_an_error_as_a_whole(read, pack, suffix, share):
    data = pack(LINES)
    with pytest.raises(ArtifactError, match=r"the archive is cut off at byte \d+ of the packed file") as caught:
        read(data[: int(len(data) * share)], f"x.jsonl.{suffix}")
    assert "none of its rows was used" in caught.value.fix


@pytest.mark.parametrize(("pack", "suffix"), [(gz, "gz"), (zst, "zst")])
def test_a_damaged_archive_is_an_error_as_a_whole(read, pack, suffix):
    data = bytearray(pack(LINES))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1] ^= 0x55
    with pytest.raises(ArtifactError, match=r"the archive is (damaged|cut off) at byte \d+"):
        read(bytes(data) + b"trailing garbage" * 3, f"x.jsonl.{suffix}")


def test_the_archive_may_break_after_it_was_looked_at(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gz(LINES))
    layout = inspect(path, max_chars=1000)
    path.write_bytes(gz(LINES)[:-9])
    with pytest.raises(ArtifactError, match="cut off"):
        list(read_rows(path, source="x", layout=layout, max_chars=1000))


def test_a_name_that_promises_an_archive(read):
    with pytest.raises(ArtifactError, match=r"named \.gz but holds no gzip data"):
        read(LINES, "x.jsonl.gz")


@pytest.mark.parametrize(("pack", "suffix"), [(gz, "gz"), (zst, "zst")])
def test_a_bomb_is_one_long_line(read, pack, suffix):
    _, (first, second) = read(pack(b"x" * 50_000_000 + b'\n{"a": "1"}'), f"x.jsonl.{suffix}")
    assert first.content.reason == "50000000 characters, limit 10000"
    assert second.content.value == {"a": "1"}


def without(monkeypatch, name):
    importer = builtins.__import__

    def refuse(wanted, *rest, **more):
        if wanted.split(".")[0] == name:
            raise ImportError(wanted)
        return importer(wanted, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize(
    ("library", "name", "data"),
    [("zstandard", "x.jsonl.zst", b"\x28\xb5\x2f\xfd1234"), ("pyarrow", "x.parquet", b"PAR1")],
)
def test_a_missing_library_is_named_with_its_install_line(read, monkeypatch, library, name, data):
    without(monkeypatch, library)
    with pytest.raises(MissingExtraError, match=library) as caught:
        read(data, name)
    assert caught.value.fix == "pip install 'tunewright[data]'"


def zipped(*names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "problem", "fix"),
    [
        ("x.xlsx", zipped("xl/workbook.xml"), "Excel workbooks are not read", "CSV"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel workbooks are not read", "CSV"),
        ("x.zip", zipped("a.jsonl"), "ZIP archives are not read", "unpack"),
        ("x.arrow", b"ARROW1\x00\x00", "Arrow files are not read", "Parquet"),
        ("x.jsonl.bz2", b"BZh91AY", "bzip2 files are not read", "gzip"),
        ("x.jsonl.xz", b"\xfd7zXZ\x00", "xz files are not read", "Zstandard"),
        ("x.tar.gz", gz(b"x" * 257 + b"ustar" + b"\x00" * 250), "tar archives are not read", "unpack"),
        ("x.parquet.gz", gz(b"PAR1"), "Parquet inside another archive", "unpack"),
        ("x.jsonl", b"%PDF-1.7", "PDF files are not read", "JSONL"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # packed bytes hold the time of day
)
def test_what_is_not_read_is_refused_with_the_next_step(read, name, data, problem, fix):
    with pytest.raises(ConfigError, match=problem) as caught:
        read(data, name)
    assert fix in caught.value.fix
    assert caught.value.where.endswith(name)


def test_an_empty_archive_is_empty(read):
    with pytest.raises(ArtifactError, match="the data source is empty"):
        read(gz(b""), "x.jsonl.gz")


@pytest.fixture
def parquet(tmp_path):
    """Writes columns to a Parquet file and reads it back as rows."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    def rows(columns, **settings):
        path = tmp_path / "x.parquet"
        writer.write_table(pyarrow.table(columns), path, row_group_size=100)
        layout = inspect(path, max_chars=settings.setdefault("max_chars", 10_000))
        assert layout.shape == "parquet"
        return list(read_rows(path, source="x", layout=layout, **settings))

    return rows


def test_parquet_with_nested_turns(parquet):
    turns = [
        [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "好", "train": False}]
        for n in range(700)
    ]
    rows = parquet(
        {"messages": turns, "n": list(range(700)), "score": [0.5] * 699 + [float("nan")], "ok": [True] * 700}
    )
    assert len(rows) == 700
    value = rows[699].content.value
    assert value["messages"] == [
        {"role": "user", "content": "q699", "train": None},
        {"role": "assistant", "content": "好", "train": False},
    ]
    assert (type(value["n"]), value["n"], type(value["score"]), value["ok"]) == (SourceNumber, "699", NonFinite, True)
    assert (rows[699].place.line, rows[699].place.byte_offset, rows[699].id) == (700, 0, "x:700")
    assert json.loads(rows[0].raw) == {
        "messages": [{**t, "train": t.get("train")} for t in turns[0]],
        "n": 0,
        "score": 0.5,
        "ok": True,
    }
    assert [row.number for row in rows] == list(range(1, 701))


def test_parquet_of_other_types(parquet):
    import datetime
    import decimal

    (row,) = parquet(
        {
            "question": [b"q"],
            "day": [datetime.date(2026, 1, 2)],
            "price": [decimal.Decimal("3.50")],
            "raw": [b"\xff\x00"],
            "none": [None],
        }
    )
    assert row.content.value == {"question": "q", "day": "2026-01-02", "price": "3.50", "raw": "/wA=", "none": None}
    assert json.loads(row.raw) == row.content.value


def test_parquet_rows_over_the_limit_and_with_bad_bytes(parquet):
    import pyarrow

    texts = pyarrow.array([b"good", b"bad \xff", b"x" * 300, b"good"]).view(pyarrow.string())
    rows = parquet({"question": texts}, max_chars=100)
    assert [isinstance(row.content, Rejection) and row.content.code for row in rows] == [
        False,
        "BAD_UTF8",
        "TOO_LONG",
        False,
    ]
    assert rows[1].content.reason == "byte 0xff of a text is not valid UTF-8"
    assert rows[2].content.reason == "308 characters, limit 100"
    assert [row.raw is None for row in rows] == [False, True, True, False]


def test_a_damaged_parquet_file_is_an_error(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    path = tmp_path / "x.parquet"
    writer.write_table(pyarrow.table({"a": ["text"] * 1000}), path)
    whole = path.read_bytes()
    for cut in (4, 40, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArtifactError, match="the Parquet file cannot be read behind row 0"):
            inspect(path, max_chars=1000)
    writer.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}), path)
    with pytest.raises(ArtifactError, match="has no rows"):
        inspect(path, max_chars=1000)
