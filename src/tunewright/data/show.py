"""Samples as they are trained: the model's own rendering token by token, trained text and special tokens marked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact
from tunewright.data.choose import Chosen, close_ids, pick
from tunewright.data.codes import CODES
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

SPLITS = ("train", "validation", "test")
QUARANTINE = "quarantine.jsonl"
FEED = "⏎"
"""Stands before every line feed of a rendering, which is shown as well."""
_GREEN, _INVERSE, _BOLD, _END = "\x1b[32m", "\x1b[7m", "\x1b[1m", "\x1b[0m"
_INCOMPLETE = "\ufffd"
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of one kind. special: a control token of the model, never text that only spells one."""

    text: str
    trained: bool
    special: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class ShownSequence:
    """One training sequence. cut: prompt tokens that were cut from its left to fit into max_length."""

    segments: tuple[Segment, ...]
    tokens: int
    trained: int
    cut: int

    @property
    def counts(self) -> str:
        """'182 tokens, 40 trained'; tokens that were cut are named."""
        cut = f", {self.cut:,} of the prompt cut" if self.cut else ""
        return f"{self.tokens:,} tokens, {self.trained:,} trained{cut}"


@dataclass(frozen=True, slots=True)
class View:
    """A row with the sequences made of it. why: for what it was chosen."""

    id: str
    split: str
    why: str
    turns: int
    sequences: tuple[ShownSequence, ...]


def render_sample(conversation: Conversation, tokenizer: ChatTokenizer, *, max_length: int) -> list[ShownSequence]:
    """The sequences that training makes of a conversation; max_length: tokens of one.

    Raises ArtifactError when an answer is longer than that, TemplateRefusal when the template does not take the turns.
    """
    examples = tokenizer.examples(conversation, max_length=max_length)
    return [
        ShownSequence(
            tuple(_merged(_pieces(example, tokenizer))),
            len(example.input_ids),
            example.trained,
            example.cut_prompt_tokens,
        )
        for example in examples
    ]


def _pieces(example: Example, tokenizer: ChatTokenizer) -> Iterator[Segment]:
    """The smallest pieces whose text is whole: a character spread over tokens comes with its last token, and a
    sentencepiece token keeps its space, because it is decoded together with the tokens before it."""
    ids = example.input_ids
    controls = tokenizer.segments.control_ids
    kinds = [(label != IGNORED, token in controls) for token, label in zip(ids, example.labels, strict=True)]
    before, start, known = 0, 0, ""
    for end in range(1, len(ids) + 1):
        is_last = end == len(ids) or kinds[end] != kinds[start] or kinds[end][1]
        text = tokenizer.decode(ids[before:end], keep_special=True)
        if text.endswith(_INCOMPLETE) and not is_last:
            continue
        trained, special = kinds[start]
        yield Segment(text[len(known) :], trained, special, end - start)
        before, start = start, end
        known = tokenizer.decode(ids[before:end], keep_special=True)


def _merged(pieces: Iterable[Segment]) -> Iterator[Segment]:
    """Neighbours of one kind become one segment; every special token stays one of its own."""
    held: list[Segment] = []
    for piece in pieces:
        if held and (piece.special or (piece.trained, piece.special) != (held[0].trained, held[0].special)):
            yield _joined(held)
            held = []
        held.append(piece)
    if held:
        yield _joined(held)


def _joined(pieces: Sequence[Segment]) -> Segment:
    first = pieces[0]
    text = "".join(piece.text for piece in pieces)
    return Segment(text, first.trained, first.special, sum(piece.tokens for piece in pieces))


def visible(text: str) -> str:
    """`text` with control, format and private-use characters as ‹U+200B›: a terminal or a page is not steered by it.

    Line feeds, tabs and the joiners inside emoji stay.
    """
    return "".join(_visible(letter) for letter in text) if not (text.isascii() and text.isprintable()) else text


def _visible(letter: str) -> str:
    if letter in "\n\t" or letter in _JOINERS:
        return letter
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return f"‹U+{ord(letter):04X}›" if hidden else letter


def to_ansi(sequences: Sequence[ShownSequence], *, colour: bool) -> str:
    """For a terminal: trained text green, special tokens inverse. Without colour, trained text stands in [[ ]]."""
    many = len(sequences) > 1
    parts = []
    for number, sequence in enumerate(sequences, start=1):
        name = f"sequence {number} of {len(sequences)}: " if many else ""
        body = _coloured(sequence.segments) if colour else _bracketed(sequence.segments)
        parts.append(f"{name}{sequence.counts}\n{body}\n")
    return "\n".join(parts)


def _coloured(segments: Iterable[Segment]) -> str:
    return "".join(_painted(segment) for segment in segments)


def _painted(segment: Segment) -> str:
    """Colours end before a line does, so that a pager or `grep` shows every line right."""
    codes = (_GREEN if segment.trained else "") + (_INVERSE if segment.special else "")
    lines = _with_feeds(segment.text).split("\n")
    return "\n".join(f"{codes}{line}{_END}" if codes and line else line for line in lines)


def _bracketed(segments: Iterable[Segment]) -> str:
    shown, is_open = "", False
    for segment in segments:
        if segment.trained != is_open:
            shown += "[[" if segment.trained else "]]"
            is_open = segment.trained
        shown += _with_feeds(segment.text)
    return shown + ("]]" if is_open else "")


def _with_feeds(text: str) -> str:
    return visible(text).replace("\n", f"{FEED}\n")


def to_html(sequence: ShownSequence) -> str:
    """The segments as escaped spans of the classes `trained` and `special` (both at an end token), else plain text."""
    return "".join(_span(segment) for segment in sequence.segments)


def _span(segment: Segment) -> str:
    text = escape(_with_feeds(segment.text)).replace(FEED + "\n", f'<i class="feed">{FEED}</i>\n')
    kinds = " ".join(name for name in ("trained", "special") if getattr(segment, name))
    return f'<span class="{kinds}">{text}</span>' if kinds else f"<span>{text}</span>"


def views(chosen: Iterable[Chosen], tokenizer: ChatTokenizer, *, split: str, max_length: int) -> list[View]:
    """The chosen rows rendered, in their order."""
    return [_view(one, tokenizer, split, max_length) for one in chosen]


def _view(one: Chosen, tokenizer: ChatTokenizer, split: str, max_length: int) -> View:
    conversation = one.conversation
    turns = len(conversation.messages)
    sequences = tuple(render_sample(conversation, tokenizer, max_length=max_length))
    return View(conversation.id, split, one.why, turns, sequences)


def sample_views(
    rows: Iterable[Mapping[str, Any]],
    tokenizer: ChatTokenizer,
    *,
    split: str,
    count: int,
    max_length: int,
    seed: int,
) -> list[View]:
    """`count` rows of a split chosen by `pick` and rendered: for `show`, and for the samples of the page."""

    def is_cut(conversation: Conversation) -> bool:
        return any(example.cut_prompt_tokens for example in tokenizer.examples(conversation, max_length=max_length))

    chosen = pick(rows, split=split, row_id=None, count=count, seed=seed, is_cut=is_cut)
    return views(chosen, tokenizer, split=split, max_length=max_length)


def show(
    artifact: Artifact,
    tokenizer: ChatTokenizer,
    *,
    split: str,
    row_id: str | None,
    count: int,
    max_length: int,
    colour: bool,
) -> str:
    """What `tunewright data show` prints: `count` rows of a split, or the row `row_id` of any split or the quarantine.

    The choice follows the artifact's own seed. Raises ConfigError for an unknown split or id, with close ids.
    """
    if split not in SPLITS:
        raise ConfigError(f"there is no split '{split}'", where="--split", fix=f"known: {', '.join(SPLITS)}")
    if row_id is not None:
        return _one_row(artifact, tokenizer, (split, row_id), max_length=max_length, colour=colour)
    seed = int(artifact.manifest.config.get("seed") or 0)
    rows = _rows(artifact, f"{split}.jsonl")
    found = sample_views(rows, tokenizer, split=split, count=count, max_length=max_length, seed=seed)
    return "\n".join([_legend(colour), *(_shown(view, colour) for view in found)])


def _rows(artifact: Artifact, name: str) -> Iterator[dict[str, Any]]:
    """One row at a time: `Artifact.jsonl` would hold a million of them."""
    with artifact.file(name).open(encoding="utf-8", newline="\n") as handle:
        yield from (json.loads(line) for line in handle)


def _one_row(
    artifact: Artifact, tokenizer: ChatTokenizer, wanted: tuple[str, str], *, max_length: int, colour: bool
) -> str:
    split, row_id = wanted
    for name in dict.fromkeys((split, *SPLITS)):
        found = [Chosen(Conversation.from_row(row), "asked for") for row in _of_row(artifact, name, row_id)]
        if found:
            shown = views(found, tokenizer, split=name, max_length=max_length)
            return "\n".join([_legend(colour), *(_shown(view, colour) for view in shown)])
    row = next((row for row in _rows(artifact, QUARANTINE) if row["id"] == row_id), None)
    if row is not None:
        return _quarantined(row, colour)
    names = [*(f"{name}.jsonl" for name in SPLITS), QUARANTINE]
    close = close_ids((str(row["id"]) for name in names for row in _rows(artifact, name)), row_id)
    hint = f"close ids: {', '.join(close)}" if close else "ids are the source's name and the line: data.jsonl:12"
    raise ConfigError(f"no row has the id '{row_id}'", where="--row", fix=visible(hint))


def _of_row(artifact: Artifact, split: str, row_id: str) -> Iterator[dict[str, Any]]:
    """The row with this id, or its samples, which are called `ROW~1`, `ROW~2` ... and stand together."""
    is_met = False
    for row in _rows(artifact, f"{split}.jsonl"):
        if row["id"] == row_id or row["id"].startswith(f"{row_id}~"):
            is_met = True
            yield row
        elif is_met:
            return


def _legend(colour: bool) -> str:
    trained = f"{_GREEN}trained{_END}" if colour else "[[trained]]"
    special = f", {_INVERSE}special token{_END}" if colour else ""
    return f"{trained}{special}, {FEED} line feed\n"


def _shown(view: View, colour: bool) -> str:
    title = visible(f"{view.id}  {view.split}, {view.turns} turns, {view.why}")
    return f"{_titled(title, colour)}\n{to_ansi(view.sequences, colour=colour)}"


def _titled(title: str, colour: bool) -> str:
    return f"{_BOLD}{title}{_END}" if colour else title


def _quarantined(row: Mapping[str, Any], colour: bool) -> str:
    """A quarantined row has no rendering: its own text, the reason and what can be done."""
    place = f"{row['source']}:{row['line']}, byte {row['byte_offset']:,}"
    lines = [
        _titled(visible(f"{row['id']}  quarantined"), colour),
        visible(f"{row['code']} at {place}: {row['reason']}"),
    ]
    if row.get("other_codes"):
        lines.append(visible(f"also found: {', '.join(row['other_codes'])}"))
    if row["code"] in CODES:
        lines.append(f"next step: {CODES[row['code']].next_step}")
    raw = row.get("raw")
    body = _with_feeds(raw) if raw is not None else f"(its text was not kept) {visible(row.get('excerpt') or '')}"
    return "\n".join([*lines, "", body, ""])
