"""Files as streams of bytes, whatever they are packed in: plain, gzip or Zstandard, in bounded memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from tunewright.core.errors import ArtifactError, MissingExtraError

Compression = Literal["none", "gzip", "zstd"]
INSTALL = "pip install 'tunewright[data]'"
_MAGIC: tuple[tuple[bytes, Compression], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_SUFFIXES = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_PACKED_PIECE = 1 << 10
"""Bytes of a Zstandard file that are unpacked at a time: a block of 4 bytes can hold 128 KiB, so at most 32 MiB."""
_BUFFER = 1 << 18


def find_compression(path: Path) -> Compression:
    """How the file is packed, by its first bytes. Raises ArtifactError where its name says another thing."""
    with path.open("rb") as handle:
        head = handle.read(4)
    found: Compression = next((name for magic, name in _MAGIC if head.startswith(magic)), "none")
    named = _SUFFIXES.get(path.suffix.lower())
    if named and named != found and head:
        raise ArtifactError(
            f"the file is named {path.suffix} but holds no {named} data", where=str(path), fix="check the download"
        )
    return found


def inner_suffix(path: Path) -> str:
    """The suffix that tells the format: `.csv` of `faq.csv.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in _SUFFIXES else path.suffix.lower()


def open_bytes(path: Path, compression: Compression) -> IO[bytes]:
    """The unpacked bytes of `path` in order. Reading raises ArtifactError for a cut or damaged archive.

    Raises MissingExtraError where Zstandard is not installed.
    """
    if compression == "none":
        return path.open("rb", buffering=_BUFFER)
    if compression == "gzip":
        packed = path.open("rb")
        return io.BufferedReader(_Unpacked(packed, gzip.GzipFile(fileobj=packed).read, path, (zlib.error,)), _BUFFER)
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("Zstandard files need zstandard", where=str(path), fix=INSTALL) from None
    packed = path.open("rb")
    frames = _Frames(packed, zstandard.ZstdDecompressor())
    return io.BufferedReader(_Unpacked(packed, frames.read, path, (zstandard.ZstdError,)), _BUFFER)


def packed_position(handle: IO[bytes]) -> int:
    """How many bytes of the file on disk were read for what `open_bytes` gave so far; packed ones of an archive."""
    raw: Any = getattr(handle, "raw", handle)
    return raw.packed_position() if isinstance(raw, _Unpacked) else int(raw.tell())


class _Unpacked(io.RawIOBase):
    """An archive's content as a raw stream; a fault of the archive becomes an error that names the place."""

    def __init__(
        self, packed: IO[bytes], read: Callable[[int], bytes], path: Path, faults: tuple[type[Exception], ...]
    ) -> None:
        self._packed, self._read, self._path = packed, read, path
        self._faults: tuple[type[Exception], ...] = (*faults, gzip.BadGzipFile, EOFError)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills at most the whole buffer; 0 at the end of the content."""
        try:
            data = self._read(len(buffer))
        except self._faults as fault:
            problem = "the archive is cut off" if isinstance(fault, EOFError) else "the archive is damaged"
            raise ArtifactError(
                f"{problem} at byte {self._packed.tell()} of the packed file ({fault})",
                where=str(self._path),
                fix="download or pack the file again; none of its rows was used",
            ) from None
        buffer[: len(data)] = data
        return len(data)

    def packed_position(self) -> int:
        """Bytes of the packed file that were read."""
        return self._packed.tell()

    def close(self) -> None:
        """Closes the file below too."""
        self._packed.close()
        super().close()


class _Frames:
    """Zstandard frames one after the other. The library's own reader takes a cut frame for the end of the file."""

    def __init__(self, packed: IO[bytes], unpacker: Any) -> None:
        self._packed, self._unpacker = packed, unpacker
        self._frame: Any = None
        self._rest = b""
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._ready:
            piece = self._rest or self._packed.read(_PACKED_PIECE)
            self._rest = b""
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last frame has no end")
                return b""
            self._frame = self._frame or self._unpacker.decompressobj()
            self._ready = memoryview(self._frame.decompress(piece))
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        taken, self._ready = self._ready[:size], self._ready[size:]
        return bytes(taken)
