"""What a project file may say of each rule. Light: the rules themselves are imported when they run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tunewright.core.registry import PluginOptions

PersonalKind = Literal["phone", "id_card", "bank_card", "email", "ip"]
Language = Literal["zh", "en", "ja", "ko", "ru"]
Report = Literal["report", "quarantine"]


class RolesOptions(PluginOptions):
    """Turn order: merges neighbours of one role, cuts a dangling user turn, masks a first assistant turn."""

    name: Literal["roles"] = "roles"


class TextOptions(PluginOptions):
    """Text repair: NFC, control, zero-width and bidi characters removed. Punctuation and numbers stay."""

    name: Literal["text"] = "text"
    preset: Literal["standard", "aggressive"] = "standard"
    """`aggressive` also deletes every sign that is no letter, digit or blank, joins blanks and lower-cases. That
    destroys meaning: `37.5` becomes `375`, `-5%` becomes `5`, `3/4` becomes `34`, `C++` becomes `c`, `<b>a</b>` becomes
    `bab`, and a question loses its mark. For classifiers of word counts, not for chat models."""


class LengthOptions(PluginOptions):
    """Quarantines conversations that are too long."""

    name: Literal["length"] = "length"
    max_chars: int = Field(default=8000, ge=1)
    """Largest number of characters in all turns together."""


class RedactOptions(PluginOptions):
    """Masks personal data in turns and tool calls as `<PHONE>`, `<ID_CARD>`, `<BANK_CARD>`, `<EMAIL>`, `<IP>`."""

    name: Literal["redact"] = "redact"
    kinds: tuple[PersonalKind, ...] = Field(default=("phone", "id_card", "bank_card", "email", "ip"), min_length=1)
    """Which kinds are masked."""
    keys: tuple[str, ...] = ()
    """Metadata keys in whose values the same kinds are masked, such as `metadata.customer.contact`."""
    mapping: bool = False
    """Numbers the placeholders (`<PHONE_1>`: the same text, the same number within a conversation) and writes what
    stood there to a separate file that only its owner can read."""


class SecretsOptions(PluginOptions):
    """Finds API keys, private keys, tokens, connection strings and assigned passwords in turns and tool calls."""

    name: Literal["secrets"] = "secrets"
    action: Literal["quarantine", "mask"] = "quarantine"
    """`quarantine` takes the row out; `mask` writes `<SECRET>` in its place."""


class ToxicityOptions(PluginOptions):
    """Finds toxic turns in Chinese and English with the built-in classifier."""

    name: Literal["toxicity"] = "toxicity"
    threshold: float = Field(default=0.5, gt=0, le=1)
    """A turn is toxic from this probability on."""
    roles: tuple[Literal["system", "user", "assistant", "tool"], ...] = Field(default=("assistant",), min_length=1)
    """Whose turns are judged. A rude user is a situation to learn from; a rude answer is not."""
    action: Report = "report"
    """`report` lists the row, `quarantine` takes it out."""


class ForgedTurnsOptions(PluginOptions):
    """Finds content that plays other turns: `User:` at the start of a line, `[INST]`, `<|im_start|>` ..."""

    name: Literal["forged_turns"] = "forged_turns"
    action: Report = "report"
    """`report` lists the row, `quarantine` takes it out."""


class TurnsOptions(PluginOptions):
    """One sample for each trained answer, with a limited context. Row counts do not change."""

    name: Literal["turns"] = "turns"
    keep_turns: int | None = Field(default=None, ge=0)
    """At most this many earlier turns stay as context (a turn is a question with all that answers it); the system turn
    always stays. Without it the conversation stays one sample."""


class LanguageOptions(PluginOptions):
    """Share of letters by script; digits, punctuation, code and links are not counted."""

    name: Literal["language"] = "language"
    languages: tuple[Language, ...] = Field(default=("zh", "en"), min_length=1)
    """Languages that are wanted. Told by script: all that is written in Latin letters counts as `en`, Han characters
    as `zh`, or as `ja` where kana stands among them."""
    min_share: float = Field(default=0.7, gt=0, le=1)
    """Smallest share of a conversation's letters that must be in these languages."""
    action: Report = "report"
    """`report` lists the row, `quarantine` takes it out."""


class DomainOptions(PluginOptions):
    """Domain relevance: counts rows that belong to the domain and hold what it requires; lists the others."""

    name: Literal["domain"] = "domain"
    metadata: dict[str, tuple[str, ...]] = {}
    """A row belongs to the domain when one of these metadata keys has one of its values."""
    vocabulary: tuple[str, ...] = ()
    """Words of the domain; a row that holds `min_words` of them belongs to it."""
    min_words: int = Field(default=1, ge=1)
    """How many different words of the vocabulary a row must hold."""
    elements: dict[str, tuple[str, ...]] = {}
    """What a row must contain: one word of each list. `metadata.topic=advice` in a list stands for a label."""

    @model_validator(mode="after")
    def _something_to_look_for(self) -> DomainOptions:
        if not (self.metadata or self.vocabulary or self.elements):
            raise ValueError("the rule domain needs metadata, vocabulary or elements")
        words = (*self.vocabulary, *(word for words in self.elements.values() for word in words))
        if any(not word.strip() for word in words):
            raise ValueError("the rule domain has an empty word")
        if not all(self.elements.values()) or not all(self.metadata.values()):
            raise ValueError("the rule domain has an empty list")
        if self.vocabulary and self.min_words > len(set(self.vocabulary)):
            raise ValueError(f"min_words is {self.min_words}, but the vocabulary has {len(set(self.vocabulary))} words")
        return self
