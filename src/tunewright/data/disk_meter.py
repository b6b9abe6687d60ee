"""How much of the packed sources was read: rows of an archive know their unpacked size only."""

from __future__ import annotations

from typing import IO

from tunewright.data.reading.streams import packed_position
from tunewright.data.sources import Source


class DiskMeter:
    """Positions in the files on disk, by the source's name. With several workers the reader is some rows ahead of what
    is prepared; counted is what was read."""

    def __init__(self) -> None:
        self._handles: dict[str, IO[bytes]] = {}
        self._counted: dict[str, int] = {}

    def opened(self, name: str, handle: IO[bytes]) -> None:
        """`handle` reads the source `name`."""
        self._handles[name] = handle

    def since(self, source: Source) -> int:
        """Bytes of the file on disk that were read since the last call for this source; all together its size at most.

        A stream that is closed was read to its end.
        """
        handle = self._handles.get(source.name)
        at = source.bytes if handle is None or handle.closed else packed_position(handle)
        new = at - self._counted.get(source.name, 0)
        self._counted[source.name] = at
        return new
