"""Writing models: safetensors with tied weights kept tied, tokenizer files linked as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.core import files

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def save_model(model: Any, target: Path, *, tokenizer_from: Path) -> None:
    """Writes config and safetensors weights of `model` to `target` and links the tokenizer beside them."""
    with files.disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(target, safe_serialization=True)
    link_tokenizer(tokenizer_from, target)


def link_tokenizer(source: Path, target: Path) -> None:
    """Hard-links the tokenizer, template and generation settings unchanged."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            files.link_or_copy(source / name, target / name)
