"""The key of a question: two requests have the same one only when the model would be asked the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling
from tunewright.models.template import Tools

VERSION = 1
"""Counts up when what is hashed, or what is stored, changes its form."""


@dataclass(frozen=True)
class Identity:
    """What answers: `model` is the hash of the served artifact and its variant, so promotion changes every key;
    `template` the hash of the chat template, `adapter` how the artifact's adapter was tuned, or empty."""

    model: str
    template: str = ""
    adapter: str = ""


def is_repeatable(sampling: Sampling) -> bool:
    """Whether asking again gives the same answer: greedy, or drawn with a seed."""
    return sampling.temperature == 0 or sampling.seed is not None


def question_key(
    identity: Identity,
    tenant: str,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    exact_length: bool,
    tools: Tools | None = None,
) -> str:
    """SHA-256 in hex. Messages are in the template's form: parts joined and nulls left out, so that all ways to write
    one conversation on the wire are one question. What does not change a greedy answer (top_p, seed) is left out."""
    how = asdict(sampling)
    if sampling.temperature == 0:
        how |= {"top_p": 1.0, "seed": None}
    whole: list[Any] = [VERSION, tenant, asdict(identity), how, exact_length, tools or []]
    whole.append([message.model_dump(exclude_defaults=True) for message in messages])
    text = json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
