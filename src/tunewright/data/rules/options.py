"""What a project file may say of each rule. Light: the rules themselves are imported when they run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.core.registry import PluginOptions


class RolesOptions(PluginOptions):
    """Turn order: merges neighbours of one role, cuts a dangling user turn, masks a first assistant turn."""

    name: Literal["roles"] = "roles"


class TextOptions(PluginOptions):
    """Text repair: NFC, control, zero-width and bidi characters removed. Punctuation and numbers stay."""

    name: Literal["text"] = "text"


class LengthOptions(PluginOptions):
    """Quarantines conversations that are too long."""

    name: Literal["length"] = "length"
    max_chars: int = Field(default=8000, ge=1)
    """Largest number of characters in all turns together."""
