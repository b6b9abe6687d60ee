"""Synonym dictionaries: one group a line, words separated by tabs, the language tag first.

    # a comment
    zh<TAB>尽快<TAB>赶快
    en<TAB>help me<TAB>assist me
    !zh<TAB>理财<TAB>检查            words that are never changed and never cut by a shorter one

Any word of a group may stand for any other of it in every sentence, so entries are best written as inflected phrases.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from tunewright.core.errors import ConfigError
from tunewright.data.augment.preserve import changed_facts

BUILTIN = "builtin"
LANGUAGES = ("zh", "en")
_STARTER = "starter.tsv"


@dataclass
class Vocabulary:
    """One language's words. others: what may stand for a word; written: a word as the file has it; protected: words
    that stay. Keys are lower-case in English."""

    others: dict[str, tuple[str, ...]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)

    @property
    def words(self) -> set[str]:
        """All words that matching must not cut."""
        return self.protected | self.others.keys()


Dictionary = dict[str, Vocabulary]


def dictionary_path(name: str, root: Path) -> Path:
    """The file of `builtin`, or of a path that is relative to the project's root."""
    if name == BUILTIN:
        return Path(str(resources.files("tunewright.data.augment") / _STARTER))
    return root / Path(name).expanduser()


def load_dictionary(names: Sequence[str], root: Path) -> Dictionary:
    """All files in one dictionary. Raises ConfigError with file and line for whatever breaks the format, for a word
    in two groups, and for a group whose words differ in a number, a negation or a question."""
    reader = _Reader()
    for name in names:
        path = dictionary_path(name, root)
        reader.read(_text(path), BUILTIN if name == BUILTIN else str(path))
    return reader.dictionary


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("there is no such dictionary", where=str(path), fix="check the path, or `builtin`") from None
    except OSError as error:
        raise ConfigError(f"the dictionary cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the dictionary is not UTF-8 (byte {error.start})", where=str(path)) from None


class _Reader:
    def __init__(self) -> None:
        self.dictionary: Dictionary = {language: Vocabulary() for language in LANGUAGES}
        self._places: dict[tuple[str, str], str] = {}

    def read(self, text: str, source: str) -> None:
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.removesuffix("\r")
            if line.strip() and not line.startswith("#"):
                self._line(line, f"{source}:{number}")

    def _line(self, line: str, where: str) -> None:
        tag, *words = line.split("\t")
        language = tag.removeprefix("!")
        if language not in LANGUAGES:
            known = ", ".join(f"{name} or !{name}" for name in LANGUAGES)
            raise ConfigError(f"the line starts with '{tag}', not with a language tag", where=where, fix=f"use {known}")
        for word in words:
            _check(word, language, where)
        vocabulary = self.dictionary[language]
        if tag.startswith("!"):
            if not words:
                raise ConfigError("no word stands behind the tag", where=where)
            vocabulary.protected.update(_key(word, language) for word in words)
            return
        if len(words) < 2:
            raise ConfigError("a group needs two words or more, separated by tabs", where=where)
        for word in words:
            self._claim(language, word, where)
        for word in words[1:]:
            if fault := changed_facts(words[0], word):
                raise ConfigError(
                    f"'{words[0]}' and '{word}' do not say the same: {fault.reason}", where=where, fix="part the group"
                )
        for word in words:
            vocabulary.others[_key(word, language)] = tuple(other for other in words if other != word)
            vocabulary.written[_key(word, language)] = word

    def _claim(self, language: str, word: str, where: str) -> None:
        key = (language, _key(word, language))
        if key in self._places:
            raise ConfigError(
                f"'{word}' stands in a group already ({self._places[key]})", where=where, fix="join the two groups"
            )
        self._places[key] = where


def _key(word: str, language: str) -> str:
    """How a word is looked up."""
    return word.lower() if language == "en" else word


def _check(word: str, language: str, where: str) -> None:
    if word != word.strip() or not word:
        problem = "an empty word stands between two tabs" if not word.strip() else f"'{word}' has spaces around it"
        raise ConfigError(problem, where=where, fix="separate words by one tab each")
    if unicodedata.normalize("NFC", word) != word:
        raise ConfigError(f"'{word}' is not in the composed form NFC", where=where)
    if "  " in word or (language == "zh" and " " in word):
        raise ConfigError(f"'{word}' holds spaces that no text is matched with", where=where)
