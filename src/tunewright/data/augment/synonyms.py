"""Synonym replacement: words of a dictionary group stand for each other; numbers, names and the rest stay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.data.augment.augmenter import Text, derived, fraction
from tunewright.data.augment.dictionary import Vocabulary, dictionary_path, load_dictionary
from tunewright.data.augment.options import SynonymsOptions

_WORD = re.compile(r"[A-Za-z0-9]+(?:['’-][A-Za-z0-9]+)*")
_TRIES = 4
"""Draws a wanted copy: most texts have few places, so that a draw often repeats an earlier one."""


@dataclass(frozen=True, slots=True)
class _Place:
    start: int
    end: int
    choices: tuple[str, ...]


class Synonyms:
    """The augmenter `synonyms`."""

    def __init__(self, options: SynonymsOptions, root: Path) -> None:
        self._copies, self._rate = options.copies, options.rate
        dictionary = load_dictionary(options.dictionary, root)
        self._finders = {
            "zh": ChineseFinder(dictionary["zh"]).places,
            "en": EnglishFinder(dictionary["en"]).places,
        }

    @staticmethod
    def input_files(options: SynonymsOptions, root: Path) -> list[Path]:
        """The dictionary files."""
        return [dictionary_path(name, root) for name in options.dictionary]

    def variants(self, texts: Sequence[Text]) -> list[list[str]]:
        """Up to `copies` distinct texts each; empty where no word is in the dictionary or the language is another."""
        return [self._variants(text) for text in texts]

    def _variants(self, text: Text) -> list[str]:
        find = self._finders.get(text.language)
        places = find(text.content) if find else []
        found: dict[str, None] = {}
        for draw in range(self._copies * _TRIES if places else 0):
            found.setdefault(self._replaced(text, places, draw))
            if len(found) == self._copies:
                break
        return list(found)

    def _replaced(self, text: Text, places: Sequence[_Place], draw: int) -> str:
        scores = [fraction(text.seed, draw, "place", place.start) for place in places]
        least = min(scores)
        parts, position = [], 0
        for place, score in zip(places, scores, strict=True):
            if score < self._rate or score == least:
                choice = place.choices[derived(text.seed, draw, "choice", place.start) % len(place.choices)]
                parts += [text.content[position : place.start], choice]
                position = place.end
        return "".join([*parts, text.content[position:]])


class ChineseFinder:
    """Finds dictionary words in text without spaces.

    Longest match from the left and from the right over all words, protected ones too; only where both agree a word
    is taken, so that 代办理财 is not read as 代|办理|财 when 理财 is a word (Liang 1987's ambiguity check).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._words = vocabulary.words
        self._longest = max(map(len, self._words), default=0)

    def places(self, text: str) -> list[_Place]:
        """The words that can be replaced, from left to right."""
        agreed = set(self._from_left(text)) & set(self._from_right(text))
        return [
            _Place(start, end, self._vocabulary.others[text[start:end]])
            for start, end in sorted(agreed)
            if text[start:end] not in self._vocabulary.protected
        ]

    def _from_left(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(text):
            sizes = range(min(self._longest, len(text) - start), 0, -1)
            size = next((size for size in sizes if text[start : start + size] in self._words), 0)
            if size:
                yield start, start + size
            start += size or 1

    def _from_right(self, text: str) -> Iterator[tuple[int, int]]:
        end = len(text)
        while end > 0:
            sizes = range(min(self._longest, end), 0, -1)
            size = next((size for size in sizes if text[end - size : end] in self._words), 0)
            if size:
                yield end - size, end
            end -= size or 1


class EnglishFinder:
    """Finds dictionary phrases of whole words, the longest first; the case of the text is kept."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._words = vocabulary.words
        self._longest = max((len(word.split(" ")) for word in self._words), default=0)

    def places(self, text: str) -> list[_Place]:
        """The phrases that can be replaced, from left to right."""
        words = [match.span() for match in _WORD.finditer(text)]
        found, index = [], 0
        while index < len(words):
            size = self._match(text, words[index:])
            if size:
                start, end = words[index][0], words[index + size - 1][1]
                if choices := self._choices(text, start, end):
                    found.append(_Place(start, end, choices))
            index += size or 1
        return found

    def _match(self, text: str, words: Sequence[tuple[int, int]]) -> int:
        """How many of the next words are an entry; 0 for none. Words of a phrase are parted by one space."""
        for size in range(min(self._longest, len(words)), 0, -1):
            if _plain(text[words[0][0] : words[size - 1][1]]) in self._words:
                return size
        return 0

    def _choices(self, text: str, start: int, end: int) -> tuple[str, ...]:
        original = text[start:end]
        key = _plain(original)
        if key in self._vocabulary.protected:
            return ()
        article = re.search(r"\b(an?)\s+$", text[:start], re.IGNORECASE)
        others = self._vocabulary.others[key]
        fitting = [word for word in others if not article or _starts_alike(word, original)]
        is_first = not re.search(r"[\w,;:'’\"”)-]\s*$", text[:start])
        written = self._vocabulary.written[key]
        return tuple(_in_case_of(original, word, written=written, is_first=is_first) for word in fitting)


def _plain(words: str) -> str:
    return words.lower().replace("’", "'")


def _starts_alike(word: str, other: str) -> bool:
    """Whether both take the same article; by letter, which is enough to refuse the doubtful ones."""
    return (word[0].lower() in "aeiou") == (other[0].lower() in "aeiou")


def _in_case_of(original: str, word: str, *, written: str, is_first: bool) -> str:
    """`word` in capitals, capitalized or as the dictionary has it. written: the original's entry; ATM is no shout."""
    if original == written:
        return word[0].upper() + word[1:] if is_first and original[0].isupper() else word
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if original[0].isupper() else word
