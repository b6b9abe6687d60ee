"""How a file is read, found from its bytes: packing, encoding, shape, and the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunewright.data.reading.encoding import Encoding
from tunewright.data.reading.streams import Compression

Shape = Literal["jsonl", "array", "objects", "csv", "tsv", "parquet"]
_BYTES_PER_CHAR = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is read.

    shape: array: the rows are the elements of one JSON array; objects: JSON objects that go over several lines; csv
    and tsv: a table as text, tsv where tabs divide its cells. columns: of a table as text; header: the text of the
    line that names them; header_lines: lines of the file up to its end; has_mark: a byte order mark is before it.
    """

    encoding: Encoding
    shape: Shape
    compression: Compression = "none"
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    header: str = ""
    header_lines: int = 0
    has_mark: bool = False


def line_limit(max_chars: int) -> int:
    """Bytes of a line that are held, so that one of `max_chars` characters is whole in any encoding."""
    return max_chars * _BYTES_PER_CHAR + 16
