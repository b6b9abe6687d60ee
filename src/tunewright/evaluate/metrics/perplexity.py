"""Loss and perplexity on the test rows as they would be trained, and on a plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.model_options import PerplexityOptions
from tunewright.evaluate.metrics.perplexity_losses import RowLosses, foreseen, losses_of, sums_of
from tunewright.evaluate.prompts import begin_token
from tunewright.evaluate.rows import drawn
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

VERSION = 1
HELDOUT = ("loss.heldout", "perplexity.heldout")
TEXT = ("loss.text", "perplexity.text")
_WHERE = "evaluate.metrics.perplexity"


class Perplexity:
    """`loss.heldout`, `perplexity.heldout`, and with a text `loss.text`, `perplexity.text`; lower is better.

    A perplexity compares models with one tokenizer: others cut a text into other tokens, and the signature tells how
    many there were.
    """

    def __init__(self, options: PerplexityOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: PerplexityOptions) -> list[str]:
        """Flat keys that `measure_corpus` produces."""
        return [*HELDOUT, *(TEXT if options.path else ())]

    def measure_corpus(self, model: Any, tokenizer: ChatTokenizer, corpus: Corpus) -> list[Measured]:
        """One line of statistics a test row, and one a piece of the text. Raises ConfigError for a text that is not
        there and for rows of which none fits."""
        rows = self._rows(corpus)
        losses = losses_of(model, tokenizer, rows, max_length=corpus.max_length, where=_WHERE)
        found = losses.measured(HELDOUT, VERSION, signature="trained tokens of test rows")
        if self.options.path:
            pieces = self._pieces(corpus)
            windows = [_windows(tokenizer, piece, corpus.max_length) for piece in pieces]
            if not any(windows):
                raise ConfigError("the text has no two tokens", where=f"{_WHERE}.path", fix="name a longer text")
            statistics = sums_of(model, windows, where=f"{_WHERE}.path")
            signature = f"text:{Path(self.options.path).name}|pieces:{self.options.piece_chars} chars"
            signature += f"|windows:{corpus.max_length} tokens, not overlapping"
            found += RowLosses(statistics, 0, 0).measured(TEXT, VERSION, signature=signature)
        return found

    def foresee_corpus(self, corpus: Corpus) -> list[Measured]:
        """What `measure_corpus` will give, in kind and number, without a model; raises what it raises for files."""
        found = foreseen(HELDOUT, len(self._rows(corpus)), VERSION)
        return found + (foreseen(TEXT, len(self._pieces(corpus)), VERSION) if self.options.path else [])

    def _rows(self, corpus: Corpus) -> Sequence[Conversation]:
        most = self.options.rows
        return corpus.test if most is None else drawn(corpus.test, most, seed=corpus.seed)

    def _pieces(self, corpus: Corpus) -> list[str]:
        path = corpus.root / Path(self.options.path).expanduser()
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigError(
                f"the text cannot be read: {error.strerror}", where=f"{_WHERE}.path: {path}", fix="correct the path"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"the text is not UTF-8 (byte {error.start})", where=str(path)) from None
        found = pieces_of(text, self.options.piece_chars)
        if not found:
            raise ConfigError("the text is empty", where=str(path), fix="name a text with words in it")
        return found


def pieces_of(text: str, chars: int) -> list[str]:
    """The text in pieces of at most `chars` characters that end at line ends where there are some; blank ones are left
    out. Pieces do not depend on a tokenizer, so that two systems have the same ones."""
    found: list[str] = []
    piece = ""
    for line in text.splitlines(keepends=True):
        if piece and len(piece) + len(line) > chars:
            found.append(piece)
            piece = ""
        piece += line
        while len(piece) > chars:
            found.append(piece[:chars])
            piece = piece[chars:]
    return [part for part in [*found, piece] if part.strip()]


def _windows(tokenizer: ChatTokenizer, text: str, max_length: int) -> list[Example]:
    """The text's tokens in windows of almost equal length, the begin token in front of each. The first token of a
    window is context only: nothing predicts it. Control tokens that the text spells are plain text."""
    begin = begin_token(tokenizer)
    front = [begin] if begin >= 0 else []
    segments = tokenizer.segments
    ids = segments.spelled(text) if segments.find(text) else segments.whole(text)
    if len(ids) + len(front) < 2:
        return []
    count = math.ceil(len(ids) / (max_length - len(front)))
    size = math.ceil(len(ids) / count)
    parts = [[*front, *ids[start : start + size]] for start in range(0, len(ids), size)]
    return [Example(tuple(part), (IGNORED, *part[1:])) for part in parts if len(part) > 1]
