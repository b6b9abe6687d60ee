"""What the licence of the base model asks of who passes a tuned model on. Notes for a person, no legal advice."""

from __future__ import annotations

import re
from pathlib import Path

from tunewright.models.config import ModelInfo

_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*")
_SIZE_LIMIT = 1 << 20
_DEEPSEEK = (
    "The DeepSeek model licence allows commercial use. A derivative, and a service that runs one, must carry the use "
    "restrictions of the licence's Attachment A, give recipients a copy of the licence, and state what was changed."
)
_KNOWN = {
    "deepseek": _DEEPSEEK,
    "apache-2.0": "Apache 2.0: keep the licence and its NOTICE file with the weights and state what was changed.",
    "mit": "MIT: keep the licence text with the weights.",
    "llama": "A Llama community licence: keep its text, the attribution it asks for and its acceptable use policy.",
    "gemma": "The Gemma terms: pass on the terms and the prohibited use policy, and state what was changed.",
}


def files_of(base: Path) -> list[Path]:
    """Licence files in the base model's folder, small ones only."""
    found = {path for pattern in _FILES for path in base.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.stat().st_size <= _SIZE_LIMIT)


def name_of(base: Path, configured: str) -> str:
    """The licence's name: the project file's, else what the base's model card says, else empty."""
    card = base / "README.md"
    if configured or not card.exists():
        return configured
    text = card.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    fields = dict(re.findall(r"^(license|license_name):\s*(\S+)", head[1], re.MULTILINE)) if head else {}
    return str(fields.get("license_name") or fields.get("license", "")).strip("'\"")


def notes(info: ModelInfo, base: Path, *, configured: str) -> str:
    """The text of LICENSE-NOTES.md. base: the base model's folder; configured: `release.license`."""
    name, present = name_of(base, configured), files_of(base)
    wanted = f"{name} {info.base}".casefold()
    advice = next((text for key, text in _KNOWN.items() if key in wanted), "")
    copied = ", ".join(path.name for path in present)
    lines = [
        "# Licence notes",
        "",
        f"- Base model: {info.base}, revision {info.base_revision}. Its licence: {name or 'not stated in its folder'}.",
        f"- Changed: fine-tuned with the method `{info.method}`; the weights here are a derivative of the base's.",
        f"- {advice}" if advice else "- Read the base model's licence before you pass this model on.",
        f"- Licence files of the base: {copied}."
        if copied
        else "- The base's folder holds no licence file: fetch it from its publisher and put it beside these weights.",
        "- The training data has licences of its own, which nothing here has checked.",
    ]
    return "\n".join(lines) + "\n"
