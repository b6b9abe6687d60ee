"""Back-translation: to another language and back, line by line, so that the layout of a text stays (Sennrich 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tunewright.data.augment.augmenter import Text
from tunewright.data.augment.options import TRANSLATORS, BackTranslationOptions
from tunewright.data.augment.translators import Translator


class BackTranslation:
    """The augmenter `back_translation`."""

    def __init__(self, options: BackTranslationOptions, root: Path) -> None:
        self._copies, self._pivot = options.copies, options.pivot
        self._translator: Translator = TRANSLATORS.target(options.backend.name)(options.backend, root)

    @staticmethod
    def input_files(options: BackTranslationOptions, root: Path) -> list[Path]:
        """The folders of the translation models; none for an endpoint."""
        models: dict[str, str] = getattr(options.backend, "models", {})
        return [root / Path(folder).expanduser() for folder in models.values()]

    def variants(self, texts: Sequence[Text]) -> list[list[str]]:
        """Up to `copies` wordings each, not yet checked; none where the language is unknown or the pivot itself."""
        found: list[list[str]] = [[] for _ in texts]
        for language in sorted({text.language for text in texts}):
            pivot = self._pivot_of(language)
            if not language or language == pivot:
                continue
            rows = [row for row, text in enumerate(texts) if text.language == language]
            for draw in range(self._copies):
                answers = self._there_and_back([texts[row].content for row in rows], language, pivot, draw)
                for row, answer in zip(rows, answers, strict=True):
                    found[row].append(answer)
        return found

    def _pivot_of(self, language: str) -> str:
        if self._pivot != "auto":
            return self._pivot
        return "zh" if language == "en" else "en"

    def _there_and_back(self, texts: Sequence[str], language: str, pivot: str, draw: int) -> list[str]:
        """Empty where a line could not be translated whole: a cut text would have lost something."""
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        away = self._translator.translate(lines, language, pivot, draw=draw)
        kept = [index for index, line in enumerate(away) if line.strip()]
        back = self._translator.translate([away[index] for index in kept], pivot, language, draw=draw)
        home = dict(zip(kept, back, strict=True))
        wordings = iter([home.get(index, "") for index in range(len(lines))])
        return [_in_lines_of(text, wordings) for text in texts]


def _in_lines_of(text: str, wordings: Iterator[str]) -> str:
    """The next wordings in the place of the lines of `text`; empty when one of them is."""
    lines = [next(wordings) if line.strip() else line for line in text.splitlines()]
    is_whole = all(new.strip() or not old.strip() for old, new in zip(text.splitlines(), lines, strict=True))
    return "\n".join(lines) if is_whole else ""
