"""Text repair: composed characters, and no invisible ones. Punctuation, numbers and markup stay as they are.

Which characters: Unicode 16, General_Category Cc, and the default-ignorable format characters that carry no meaning
in plain text (zero-width spaces, word joiners, bidi controls, tags outside flag emoji).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import TextOptions

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_RETURN = re.compile("\r\n?")
_PLAIN = (
    "\t\n\x20-\x7e\u00a1-\u00ac\u00ae-\u0233\u0391-\u03a1\u03a3-\u03ce\u0400-\u0481\u2010-\u2027\u2030-\u205e"
    "\u20a0-\u20c0\u2150-\u218b\u2200-\u22ff\u2460-\u24ff\u3000-\u3029\u3041-\u3096\u309b-\u30ff"
    "\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
"""Characters that no repair touches, alone or beside each other: composed, visible, of no form that is reported."""
_OTHER = re.compile(f"[^{_PLAIN}]")
_ZERO_WIDTH = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe0e\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e007f"
)
_INVISIBLE = re.compile(f"[{_ZERO_WIDTH}]")
_VISIBLE = re.compile(f"[^\\s\x00-\x1f\x7f-\x9f{_ZERO_WIDTH}]")
_SPECIAL = re.compile(r"[^\w\s]")
_SELECTORS = "\ufe0e\ufe0f"
_KEYCAPS = tuple("0123456789#*")
_JOINERS = "\u200c\u200d"
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_EMOJI_MODIFIER = "\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_JOINING_SCRIPT = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc]"
)
"""Arabic, Syriac, N'Ko, Indic, Tibetan, Myanmar, Khmer, Mongolian: scripts where joiners change the letters."""
_VIRAMA_CLASS = 9
_BLACK_FLAG = "\U0001f3f4"
_TAGS = "".join(map(chr, range(0xE0020, 0xE0080)))
_LOOK_BACK = 16
"""Characters: longer than any tag sequence or run of emoji modifiers."""
_FULLWIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
_LOST = "\ufffd"


class Text:
    """The rule `text`."""

    def __init__(self, options: TextOptions) -> None:
        self.options = options

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Cleans every turn; full-width signs and U+FFFD are only reported."""
        repair = clean if self.options.preset == "standard" else _clean_and_flatten
        turns: list[Message] = []
        notes: list[Note] = []
        for number, turn in enumerate(draft.turns, start=1):
            found = repair(turn.content or "")
            notes += [replace(note, reason=f"turn {number}: {note.reason}") for note in found.notes]
            changed = found.text != (turn.content or "")
            turns.append(turn.model_copy(update={"content": found.text}) if changed else turn)
        return draft.changed(turns, *notes) if notes else draft


@dataclass(frozen=True, slots=True)
class Cleaned:
    """text: repaired; notes: what was found, without the number of the turn."""

    text: str
    notes: tuple[Note, ...]


def is_visible(text: str) -> bool:
    """Whether anything of `text` can be seen: not only whitespace, control and zero-width characters."""
    return _VISIBLE.search(text) is not None


def flatten(text: str) -> str:
    """The cleaning of the preset `aggressive`, as many tutorials write it: `re.sub(r"[^\\w\\s]", "", text)`, blanks
    joined, lower case.

    What it destroys: 37.5 -> 375, -5% -> 5, 3/4 -> 34, C++ -> c, <b>a</b> -> bab, and every end of a sentence.
    """
    return " ".join(_SPECIAL.sub("", text).split()).lower()


def _clean_and_flatten(text: str) -> Cleaned:
    cleaned = clean(text)
    flat = flatten(cleaned.text)
    if flat == cleaned.text:
        return cleaned
    signs = len(_SPECIAL.findall(cleaned.text))
    reason = f"aggressive preset: {signs} sign(s) deleted, blanks joined, lower-cased"
    return Cleaned(flat, (*cleaned.notes, Note("AGGRESSIVE", "repaired", reason, excerpt(text))))


def clean(text: str, *, fast: bool = True) -> Cleaned:
    """NFC, no control, zero-width or bidi characters; a carriage return becomes a line feed.

    fast: a text of printable ASCII ends here, which no repair touches; False looks at every character.
    """
    if fast and text.isascii() and text.isprintable():
        return Cleaned(text, ())
    other = _OTHER.search(text)
    if other is None:
        return Cleaned(text, ())
    notes: list[Note] = []
    shown = excerpt(text, other.start())
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        notes.append(Note("NFC", "repaired", "characters composed (NFC)", shown))
    text, returns = _RETURN.subn("\n", text)
    text, controls = _CONTROL.subn("", text)
    if returns or controls:
        parts = [f"{controls} control character(s) removed"] if controls else []
        parts += [f"{returns} carriage return(s) became line feeds"] if returns else []
        notes.append(Note("CONTROL", "repaired", ", ".join(parts), shown))
    if _INVISIBLE.search(text):
        seen = text
        visible = _INVISIBLE.sub(lambda match: match[0] if _belongs(seen, match.start()) else "", text)
        if len(visible) < len(text):
            reason = f"{len(text) - len(visible)} zero-width or bidi character(s) removed"
            notes.append(Note("ZERO_WIDTH", "repaired", reason, shown))
        text = visible
    if _FULLWIDTH.search(text):
        notes.append(Note("FULLWIDTH", "kept", "full-width digits or letters stay as they are", shown))
    if _LOST in text:
        notes.append(Note("REPLACEMENT", "kept", "U+FFFD: characters were lost before this file was written", shown))
    return Cleaned(text, tuple(notes))


def _belongs(text: str, index: int) -> bool:
    """Whether the invisible character at `index` is part of an emoji or of a letter's shape."""
    letter = text[index]
    before, after = text[max(0, index - _LOOK_BACK) : index], text[index + 1 : index + 2]
    if letter in _SELECTORS:
        return before.endswith(_KEYCAPS) or _EMOJI.match(before.rstrip(_EMOJI_MODIFIER)[-1:]) is not None
    if letter >= "\U000e0000":
        return before.rstrip(_TAGS).endswith(_BLACK_FLAG)
    if letter not in _JOINERS or not before:
        return False
    if _JOINING_SCRIPT.match(before[-1]):
        return bool(after and _JOINING_SCRIPT.match(after)) or unicodedata.combining(before[-1]) == _VIRAMA_CLASS
    base = before.rstrip(_EMOJI_MODIFIER)
    return letter == "\u200d" and bool(base and _EMOJI.match(base[-1]) and after and _EMOJI.match(after))
