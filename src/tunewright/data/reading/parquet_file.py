"""Parquet: row groups by and by, nested lists of structs included, as Python values."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.core.errors import ArtifactError, MissingExtraError
from tunewright.data.findings import Rejection
from tunewright.data.reading.layout import Layout
from tunewright.data.reading.record import Record, too_long
from tunewright.data.reading.streams import INSTALL
from tunewright.data.reading.strict_json import NonFinite, SourceNumber
from tunewright.data.reading.table_file import TableRow

MAGIC = b"PAR1"
_BATCH_ROWS = 256


def parquet_records(path: Path, source: str, layout: Layout, max_chars: int) -> Iterator[Record]:
    """A record a row. Raises MissingExtraError without pyarrow, ArtifactError for a damaged file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Parquet files need pyarrow", where=str(path), fix=INSTALL) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            size = path.stat().st_size // max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                for row in _rows(batch):
                    number += 1
                    yield _record(row, number, source=source, layout=layout, size=size, max_chars=max_chars)
    except (pyarrow.ArrowException, OSError, ValueError) as fault:
        problem = f"the Parquet file cannot be read behind row {number} ({str(fault).splitlines()[0]})"
        raise ArtifactError(problem, where=str(path), fix="write or download the file again") from None


def _rows(batch: Any) -> Iterator[dict[str, Any] | Rejection]:
    """Row by row where a text of the batch is no UTF-8, which pyarrow does not check when it reads."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as fault:
            yield Rejection("BAD_UTF8", f"byte 0x{fault.object[fault.start]:02x} of a text is not valid UTF-8")


def _record(
    row: dict[str, Any] | Rejection, number: int, *, source: str, layout: Layout, size: int, max_chars: int
) -> Record:
    if isinstance(row, Rejection):
        return Record(layout, source, number, number, 0, size, {}, problem=row)
    chars = _chars(row)
    problem = too_long(chars, max_chars, "") if chars > max_chars else None
    return Record(layout, source, number, number, 0, size, {} if problem else row, problem=problem)


def _chars(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _chars(item) for key, item in value.items())
    return sum(map(_chars, value)) if isinstance(value, list) else 0


def row_value(row: dict[str, Any]) -> TableRow:
    """The same types as from JSON: numbers in a spelling, dates and decimals as text."""
    return TableRow((name, _value(item)) for name, item in row.items())


def _value(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return SourceNumber(value)
    if isinstance(value, float):
        return SourceNumber(repr(value)) if math.isfinite(value) else NonFinite("NaN" if value != value else "Infinity")
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def row_text(row: dict[str, Any]) -> str:
    """The row as JSON, to be mended and fed in again."""
    return json.dumps(row, ensure_ascii=False, default=_text)
