"""A split's training sequences, tokenized once: a compact file beside the artifacts, found again by its content.

The file is a numpy archive without pickle: the ids of all sequences in one row, their sizes, and where trained ids
start and end.
"""

from __future__ import annotations

import gc
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core import files
from tunewright.core.events import say
from tunewright.core.runs import Workspace
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

FORMAT = 1
"""Of the file and of the way sequences are made; another one finds nothing of the old."""
_KEPT = 24
"""Files that stay when a new one is written, the newest: two splits of a dozen settings."""


@dataclass(frozen=True)
class TokenCache:
    """Cached sequences of one project, tokenizer and limit. label: who says what was read, in front of the line."""

    folder: Path
    identity: str
    label: str

    def examples(self, split: Path, make: Callable[[], list[Example]]) -> list[Example]:
        """The sequences of the JSONL file `split`: read, or made by `make` and stored.

        A damaged file is said, made anew and replaced; what is returned is the same either way.
        """
        path = self.folder / f"{self.key(split)}.npz"
        if path.exists():
            found = _read(path)
            if isinstance(found, list):
                rows = len({example.row_id for example in found})
                say(f"{self.label}: {rows} rows tokenized before, read from {path}")
                return found
            say(f"{self.label}: the token cache {path} cannot be read ({found}); the rows are tokenized again")
        made = make()
        _write(path, made)
        return made

    def key(self, split: Path) -> str:
        """The name of a split's file: content, tokenizer, template, limit and format."""
        return hashlib.sha256(f"{self.identity} {files.sha256(split)}".encode()).hexdigest()[:32]


def token_cache(
    workspace: Workspace, tokenizer: ChatTokenizer, folder: Path, *, max_length: int, label: str
) -> TokenCache:
    """The cache of a project. folder: the model's, whose tokenizer.json is part of the key."""
    parts: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": files.sha256(folder / "tokenizer.json"),
        "template": tokenizer.template.sha256,
        "names": tokenizer.template.names,
        "add_bos_token": bool(tokenizer.settings.get("add_bos_token")),
        "end_ids": sorted(tokenizer.end_ids),
        "max_length": max_length,
    }
    if "strftime_now" in tokenizer.template.source:  # such a template writes today's date into every prompt
        parts["date"] = date.today().isoformat()
    identity = json.dumps(parts, sort_keys=True)
    return TokenCache(workspace.root / "runs" / workspace.project / ".cache" / "tokens", identity, label)


def _write(path: Path, examples: Sequence[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    spans = [_spans(example) for example in examples]
    names = json.dumps([example.row_id for example in examples]).encode()
    with files.atomic_write(path, "wb") as handle:
        np.savez(
            handle,
            ids=np.asarray([token for example in examples for token in example.input_ids], dtype=np.int32),
            sizes=np.asarray([len(example.input_ids) for example in examples], dtype=np.int32),
            spans=np.asarray([place for found in spans for place in found], dtype=np.int32),
            span_sizes=np.asarray([len(found) for found in spans], dtype=np.int32),
            cut=np.asarray([example.cut_prompt_tokens for example in examples], dtype=np.int32),
            names=np.frombuffer(names, dtype=np.uint8),
        )
    _drop_old(path)


def _spans(example: Example) -> list[int]:
    """Where trained ids start and end, in turns: start, end, start, end."""
    found: list[int] = []
    for place, (token, label) in enumerate(zip(example.input_ids, example.labels, strict=True)):
        is_trained = label != IGNORED
        assert not is_trained or label == token
        if is_trained != bool(len(found) % 2):
            found.append(place)
    return [*found, len(example.labels)] if len(found) % 2 else found


def _drop_old(newest: Path) -> None:
    found = sorted(newest.parent.glob("*.npz"), key=lambda path: (path == newest, path.stat().st_mtime_ns))
    for path in found[:-_KEPT]:
        path.unlink(missing_ok=True)


def _read(path: Path) -> list[Example] | str:
    """The sequences, or why the file cannot be read."""
    try:
        with _no_collection(), path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return _examples({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__


def _examples(stored: dict[str, np.ndarray[Any, Any]]) -> list[Example]:
    ids, spans = tuple(stored["ids"].tolist()), stored["spans"].tolist()
    sizes, span_sizes, cut = (stored[name].tolist() for name in ("sizes", "span_sizes", "cut"))
    names = json.loads(stored["names"].tobytes())
    if sum(sizes) != len(ids) or sum(span_sizes) != len(spans) or not len(names) == len(cut) == len(sizes):
        raise ValueError("its parts do not belong together")
    masked = (IGNORED,) * max(sizes, default=0)
    starts, places = [0, *accumulate(sizes)], [0, *accumulate(span_sizes)]
    own = [ids[start:end] for start, end in pairwise(starts)]
    if set(span_sizes) <= {2} and spans[1::2] == sizes:  # one answer a row, at its end, as nearly all files have
        labels = [masked[:first] + row[first:] for row, first in zip(own, spans[::2], strict=True)]
    else:
        labels = [_labels(row, masked, spans[at:to]) for row, (at, to) in zip(own, pairwise(places), strict=True)]
    return list(map(Example, own, labels, names, cut))


def _labels(ids: tuple[int, ...], masked: tuple[int, ...], spans: list[int]) -> tuple[int, ...]:
    if len(spans) == 2 and spans[1] == len(ids):  # nearly every row: one answer, at the end
        return masked[: spans[0]] + ids[spans[0] :]
    labels: tuple[int, ...] = ()
    done = 0
    for first, end in zip(spans[::2], spans[1::2], strict=True):
        labels += masked[: first - done] + ids[first:end]
        done = end
    return labels + masked[: len(ids) - done]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Tuples of numbers make no cycles; looking for some among thousands of new ones takes a third of the time. What is
    frozen for a moment counts as old from then on, so that the next search does not walk through it either."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # else somebody's frozen objects would thaw
                gc.freeze()
                gc.unfreeze()
            gc.enable()
