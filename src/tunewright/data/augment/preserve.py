"""Whether a rewording still says the same, as far as rules can tell: what it lost, what it invented.

The checks prefer to drop a good variant over keeping a wrong one: a variant costs little, a wrong label costs answers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from tunewright.data.augment.augmenter import language_of
from tunewright.data.augment.facts import Facts, facts

_NOUN = {
    "NUMBER": "number",
    "AMOUNT": "amount",
    "PERCENT": "percentage",
    "CODE": "code",
    "PLACEHOLDER": "placeholder",
    "QUOTE": "quoted text",
    "EMAIL": "e-mail address",
    "URL": "address",
    "DATE": "date",
    "CURRENCY": "currency",
}
_NO_NEGATION = re.compile(
    r"([\u4e00-\u9fff])[不没]\1|有没有|不[过仅但光管论如久断同少妨]|要不|差不多|[对了]不起|不好意思|忍不住|不客气|"
    r"[特级识性分类个告区差辨鉴国]别|别[人家的处墅]|无[论线]|未来|没准|\bnot only\b|\bno\.\s*(?=\d)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"[不没无别未]|\b(?:not|no|never|none|nobody|nothing|neither|nor|nowhere|without|cannot)\b|n['’]t\b|"
    r"\b(?:ca|wo|do|does|did|is|are|was|were|has|have|had|could|should|would)nt\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[吗呢么吧几哪谁]|什么|多少|多[久长大]|如何|是否|怎|为啥|([\u4e00-\u9fff])[不没]\1|有没有|"
    r"^\W*(?:who|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|will|would|may|must|should|has|"
    r"have|any)\b",
    re.IGNORECASE | re.MULTILINE,
)
_UNIT = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_SHORT = 6
"""Characters by which a short text may always grow or shrink: 卡丢了 may become 我的银行卡丢了."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a variant may not be used. rule: a name in capitals; reason: what was lost or invented."""

    rule: str
    reason: str


def changed_meaning(
    text: str, variant: str, *, slots: Iterable[str] = (), max_length_ratio: float = 2.0, min_overlap: float = 0.0
) -> Fault | None:
    """The first thing that `variant` does not keep of `text`; None where all checks pass.

    slots: values that must still stand in the variant where they stand in the text (any width and case).
    """
    if not variant.strip():
        return Fault("EMPTY", "the variant is empty: there was no answer, or it was cut at its limit")
    return (
        _strange_characters(text, variant)
        or changed_facts(text, variant)
        or _slot_lost(text, variant, slots)
        or _shape_differs(text, variant, max_length_ratio)
        or _unrelated(text, variant, min_overlap)
    )


def _strange_characters(text: str, variant: str) -> Fault | None:
    """Control, invisible and half characters, which the gate has taken out of the text already."""
    for letter in sorted(set(variant) - set(text) - {"\n", "\t", "\r"}):
        if letter == "\ufffd" or unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            return Fault("CHARACTER", f"the character U+{ord(letter):04X} is invented")
    return None


def changed_facts(text: str, variant: str) -> Fault | None:
    """The part of the checks that holds for words as well as for sentences: facts, negations, question marks."""
    return (
        _facts_differ(facts(text), facts(variant))
        or _negations_differ(text, variant)
        or _questions_differ(text, variant)
    )


def _facts_differ(before: Facts, after: Facts) -> Fault | None:
    lost, invented = before.counts - after.counts, after.counts - before.counts
    for kind, noun in _NOUN.items():
        gone = [before.shown[key] for key in lost if key[0] == kind]
        new = [after.shown[key] for key in invented if key[0] == kind]
        if gone and new:
            return Fault(kind, f"{noun} {gone[0]} became {new[0]}")
        if gone or new:
            other = next((after.shown[key] for key in invented), "") if gone else ""
            became = f"became {other}" if other else "is lost"
            return Fault(kind, f"{noun} {gone[0]} {became}" if gone else _invented(noun, new[0], before, lost.keys()))
    return None


def _invented(noun: str, new: str, before: Facts, lost: Iterable[tuple[str, str]]) -> str:
    old = next((before.shown[key] for key in lost), "")
    return f"{old} became {noun} {new}" if old else f"{noun} {new} is invented"


def _slot_lost(text: str, variant: str, slots: Iterable[str]) -> Fault | None:
    before, after = _folded(text), _folded(variant)
    for slot in slots:
        value = _folded(slot)
        if value and before.count(value) > after.count(value):
            return Fault("SLOT", f"slot value {slot} is lost")
    return None


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _negations(text: str) -> list[str]:
    return _NEGATION.findall(_NO_NEGATION.sub(" ", text))


def _negations_differ(text: str, variant: str) -> Fault | None:
    before, after = _negations(text), _negations(variant)
    if len(before) % 2 == len(after) % 2:
        return None
    change = f"{len(before)} negation(s) became {len(after)}"
    return Fault("NEGATION", f"{change}: {', '.join(before) or 'none'} against {', '.join(after) or 'none'}")


def _question_marks(text: str) -> int:
    return len(re.findall(r"[?？]+", text))


def _questions_differ(text: str, variant: str) -> Fault | None:
    before, after = _question_marks(text), _question_marks(variant)
    if before == after or (not before and _ASKS.search(text)):
        return None
    return Fault("QUESTION", f"{before} question mark(s) became {after}")


def _shape_differs(text: str, variant: str, max_length_ratio: float) -> Fault | None:
    if language_of(text) != language_of(variant):
        names = [language_of(side) or "another script" for side in (text, variant)]
        return Fault("LANGUAGE", f"the text is {names[0]}, the variant {names[1]}")
    lines = len(text.strip().splitlines()), len(variant.strip().splitlines())
    if lines[0] != lines[1]:
        return Fault("LINES", f"{lines[0]} line(s) became {lines[1]}")
    before, after = len(text.strip()), len(variant.strip())
    if abs(before - after) > _SHORT and not before / max_length_ratio <= after <= before * max_length_ratio:
        return Fault("LENGTH", f"{before} characters became {after}, more than {max_length_ratio:g} times apart")
    return None


def _unrelated(text: str, variant: str, min_overlap: float) -> Fault | None:
    before, after = set(_UNIT.findall(_folded(text))), set(_UNIT.findall(_folded(variant)))
    share = len(before & after) / len(before) if before else 1.0
    if share < min_overlap:
        return Fault("OVERLAP", f"only {share:.0%} of the words are left, the limit is {min_overlap:.0%}")
    return None
