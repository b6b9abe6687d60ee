"""Which languages a conversation is written in, by the script of its letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import LanguageOptions

_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://[^\s\u3000-\u9fff]+", re.DOTALL)
_ASCII_LETTERS = re.compile("[A-Za-z]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_SCRIPTS = {
    "zh": re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+"),
    "en": re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]+"),
    "ja": re.compile("[\u3041-\u3096\u30a1-\u30fa\u30fc\uff66-\uff9d]+"),
    "ko": re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+"),
    "ru": re.compile("[\u0400-\u052f]+"),
}
_KANA_SHARE = 0.1
"""Of Han characters and kana together: from here on the Han characters are Japanese."""


def count_letters(text: str) -> dict[str, int]:
    """Letters by language: zh, en, ja, ko, ru, other; only those that occur. Code, links and digits do not count."""
    if "`" in text or "://" in text:
        text = _NO_PROSE.sub(" ", text)
    if text.isascii():
        letters = sum(map(len, _ASCII_LETTERS.findall(text)))
        return {"en": letters} if letters else {}
    counts = {name: sum(map(len, script.findall(text))) for name, script in _SCRIPTS.items()}
    counts["other"] = max(0, sum(map(len, _LETTERS.findall(text))) - sum(counts.values()))
    if counts["ja"] > _KANA_SHARE * (counts["ja"] + counts["zh"]):
        counts["ja"], counts["zh"] = counts["ja"] + counts["zh"], 0
    return {name: count for name, count in counts.items() if count}


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


class Language:
    """The rule `language`."""

    def __init__(self, options: LanguageOptions) -> None:
        self.options = options

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Judges user and assistant turns together; a row without a letter is in no language and is not judged."""
        spoken = [turn.content or "" for turn in draft.turns if turn.role in ("user", "assistant")]
        counts = _sum(count_letters(text) for text in spoken)
        total = sum(counts.values())
        draft = draft.tallied({f"language.{max(counts, key=lambda name: counts[name]) if total else 'none'}": 1})
        if not total or sum(counts.get(name, 0) for name in self.options.languages) >= self.options.min_share * total:
            return draft
        shown = excerpt(max(spoken, key=len))
        if self.options.action == "quarantine":
            return Rejection("LANGUAGE", self._reason(counts, total), shown)
        return draft.noted(Note("LANGUAGE", "kept", self._reason(counts, total), shown))

    def _reason(self, counts: Mapping[str, int], total: int) -> str:
        wanted = sum(counts.get(name, 0) for name in self.options.languages)
        found = ", ".join(f"{name} {counts[name] / total:.0%}" for name in sorted(counts, key=lambda n: -counts[n]))
        names = " or ".join(self.options.languages)
        limit = f"at least {self.options.min_share:.0%} wanted"
        return f"{wanted / total:.0%} of {total} letters are {names}, {limit} (found: {found})"
