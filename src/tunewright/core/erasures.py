"""The erasure list of a project: digests of rows that must not be used again. It holds no text.

The file is `runs/<project>/erased.json`. A digest is of the messages of a row, once as the source has them and once
as the rules leave them, or of the text of a row that is no conversation. Who has a guess at a whole row can test it
against the list; nobody can read a row out of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core import files, manifest
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Workspace

NAME = "erased.json"
SCHEMA_VERSION = 1
_ABOUT = "Digests of rows that the data stage must not use again. Deleting this file lets them back in."
_DIGEST_BYTES = 16


def raw_digest(raw: str) -> bytes:
    """Of the text of a row that cannot be read as a conversation."""
    return hashlib.sha256(f"raw\x1f{raw.strip()}".encode("utf-8", "backslashreplace")).digest()[:_DIGEST_BYTES]


@dataclass(frozen=True)
class Erasures:
    """digests: 16 bytes each; requests: when which ids were erased, oldest first."""

    path: Path
    digests: frozenset[bytes] = frozenset()
    requests: tuple[dict[str, Any], ...] = field(default=())

    @classmethod
    def load(cls, workspace: Workspace) -> Erasures:
        """The list of a project, empty where there is none. Raises ArtifactError for a damaged file: without it rows
        would come back."""
        path = workspace.root / "runs" / workspace.project / NAME
        if not path.exists():
            return cls(path)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            digests = frozenset(bytes.fromhex(text) for text in stored["digests"])
            return cls(path, digests, tuple(stored["requests"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"the erasure list is damaged ({type(error).__name__})",
                where=str(path),
                fix="restore it from a backup; without it erased rows would come back",
            ) from None

    @property
    def sha256(self) -> str:
        """What the data stage's settings record; '' for an empty list. The requests and their times are not in it."""
        return hashlib.sha256(b"".join(sorted(self.digests))).hexdigest() if self.digests else ""

    def is_erased(self, digest: bytes) -> bool:
        """Whether a row with this digest must not be used."""
        return digest in self.digests

    def added(self, digests: Iterable[bytes], *, ids: Iterable[str]) -> Erasures:
        """The list with more digests; the same where all are known."""
        more = frozenset(digests) - self.digests
        if not more:
            return self
        request = {"when": manifest.now().isoformat(), "ids": sorted(set(ids)), "digests": len(more)}
        return Erasures(self.path, self.digests | more, (*self.requests, request))

    def save(self) -> None:
        """Writes the file atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stored = {
            "schema_version": SCHEMA_VERSION,
            "about": _ABOUT,
            "digests": sorted(digest.hex() for digest in self.digests),
            "requests": list(self.requests),
        }
        files.write_json(self.path, stored)
