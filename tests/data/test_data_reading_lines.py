"""Lines that are records by themselves are read the short way, with the numbers, offsets and sizes of the long one."""

from __future__ import annotations

import io

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunewright.data.reading.json_file import json_records
from tunewright.data.reading.layout import Layout
from tunewright.data.reading.lines import Lines

PIECES = [
    b'{"a": 1}',
    b'{"b": "\xe4\xb8\xad"}',
    b"}",
    b"{",
    b'{"c":',
    b"1}",
    b"",
    b" ",
    b"\xff}",
    b"x" * 30,
    b"\xef\xbb\xbf{}",
]
ENDS = [b"\n", b"\n", b"\n", b"\r\n", b"\r", b""]
DATA = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(ENDS)), max_size=12)


class Long(Lines):
    """Never the short way."""

    def plain(self, most, ends):
        return iter(())


@settings(max_examples=400, deadline=None)
@given(DATA, st.sampled_from([6, 12, 25, 1000]), st.sampled_from(["jsonl", "objects"]))
@example([(b'{"a": 1}', b"\n"), (b"x" * 30, b"\n"), (b'{"a": 1}', b"")], 12, "jsonl")
@example([(b"{", b"\n"), (b"}", b"\n"), (b'{"a": 1}', b"\n")], 25, "objects")
def test_records_are_those_of_the_long_way(parts, max_chars, shape) -> None:
    data = b"".join(piece + end for piece, end in parts)
    layout = Layout("utf-8", shape)
    found = list(json_records(io.BytesIO(data), "s", layout, max_chars))
    assert found == long_way(data, layout, max_chars)
    assert all(data[one.offset : one.offset + one.size] for one in found)


def long_way(data: bytes, layout: Layout, max_chars: int):
    from tunewright.data.reading import json_file

    short = json_file.Lines
    json_file.Lines = Long
    try:
        return list(json_records(io.BytesIO(data), "s", layout, max_chars))
    finally:
        json_file.Lines = short


def test_ordinary_lines_go_the_short_way() -> None:
    """Else the speed would be lost without a word."""
    lines = Lines(io.BytesIO(b'{"a":1}\n{"b":2}\r\n{"c":\n3}\n{"d":4}'), "utf-8", 100)
    ends = (b"}\n", b"}\r\n")
    assert list(lines.plain(50, ends)) == [(1, 0, b'{"a":1}\n'), (2, 8, b'{"b":2}\r\n')]
    odd = lines.next()
    assert odd is not None and (odd.number, odd.offset, odd.data) == (3, 17, b'{"c":')
    lines.put_back([odd])
    assert list(lines.plain(50, ends)) == []
    assert lines.next() == odd
    assert [data for _, _, data in lines.plain(50, ends)] == [b"3}\n"]
    last = lines.next()
    assert last is not None and last.data == b'{"d":4}' and lines.next() is None
