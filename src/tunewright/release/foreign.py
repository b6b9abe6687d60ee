"""Folders that other tools wrote: what is in them, which tool it was, and what must not be opened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.core.errors import ArtifactError
from tunewright.models import source
from tunewright.models.template import ChatTemplate
from tunewright.models.tokens import ChatTokenizer

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TYPES = ("LORA", "IA3", "PREFIX_TUNING")
"""Kinds of adapters that every later stage can open."""
_README_BYTES = 1 << 16
_TAGS = {
    "llama-factory": "LLaMA-Factory",
    "swift": "ms-swift",
    "ms-swift": "ms-swift",
    "unsloth": "Unsloth",
    "axolotl": "Axolotl",
    "trl": "TRL",
}
_FILES = {
    "llamaboard_config.yaml": "LLaMA-Factory",
    "trainer_log.jsonl": "LLaMA-Factory",
    "sft_args.json": "ms-swift",
    "args.json": "ms-swift",
    "additional_config.json": "ms-swift",
    "trainer_state.json": "the Hugging Face Trainer (TRL and others)",
    "training_args.bin": "the Hugging Face Trainer (TRL and others)",
}


@dataclass(frozen=True)
class Foreign:
    """kind: a PEFT adapter or a whole model; tool: who wrote it, as far as the files tell; settings: its
    adapter_config.json, empty for a whole model."""

    folder: Path
    kind: Literal["adapter", "full"]
    tool: str
    settings: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """What is taken over: weights and what opens them, nothing else (optimizer states, logs, pickle files)."""
        if self.kind == "adapter":
            return [self.folder / ADAPTER_CONFIG, self.folder / ADAPTER_WEIGHTS]
        weights = source.weight_files(self.folder)
        named = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                 "special_tokens_map.json", "chat_template.jinja", "model.safetensors.index.json")  # fmt: skip
        return [*weights, *(self.folder / name for name in named if (self.folder / name).exists())]


def recognise(folder: Path) -> Foreign:
    """What lies in `folder`. Raises ArtifactError that says what is missing and where to look instead."""
    if not folder.is_dir():
        raise ArtifactError("there is no such folder", where=str(folder), fix="give the folder that the tool wrote")
    tool = _tool(folder)
    if (folder / ADAPTER_CONFIG).exists():
        return Foreign(folder, "adapter", tool or "PEFT", _adapter(folder))
    if (folder / "config.json").exists():
        source.checked(folder)
        return Foreign(folder, "full", tool or "transformers", {})
    inside = {path.parent for name in (ADAPTER_CONFIG, "config.json") for path in folder.glob(f"**/{name}")}
    checkpoints = sorted(inside, key=lambda path: (_steps(path), path.as_posix()))
    if checkpoints:
        shown = ", ".join(path.relative_to(folder).as_posix() for path in checkpoints[-3:])
        raise ArtifactError(
            f"this is an output folder{f' of {tool}' if tool else ''}, and its models are in folders below",
            where=str(folder),
            fix=f"adopt one of them: {shown}{_best(folder, checkpoints)}",
        )
    raise ArtifactError(
        "the folder has neither adapter_config.json nor config.json, so it holds no adapter and no model",
        where=str(folder),
        fix="give a PEFT adapter's folder or a whole model's",
    )


def _steps(path: Path) -> int:
    """The number at the end of `checkpoint-60`; 0 without one."""
    number = re.search(r"(\d+)$", path.name)
    return int(number[1]) if number else 0


def _best(folder: Path, checkpoints: list[Path]) -> str:
    """What the Trainer counted as its best checkpoint."""
    for state in (folder / "trainer_state.json", checkpoints[-1] / "trainer_state.json"):
        named = _json(state).get("best_model_checkpoint") if state.exists() else None
        if named:
            return f" (the tool's own best is {Path(str(named)).name})"
    return ""


def _tool(folder: Path) -> str:
    card = folder / "README.md"
    if card.exists():
        with card.open("rb") as handle:
            text = handle.read(_README_BYTES).decode("utf-8", "replace")
        head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        tags = {tag.casefold() for tag in re.findall(r"^\s*-\s*[\"']?([\w.-]+)", head[1], re.MULTILINE)} if head else ()
        named = next((name for tag, name in _TAGS.items() if tag in tags), "")
        if named:
            return named
    model_file = folder / "Modelfile"
    if model_file.exists() and "llamafactory" in model_file.read_text(encoding="utf-8", errors="replace"):
        return "LLaMA-Factory"
    return next((name for file, name in _FILES.items() if (folder / file).exists()), "")


def _adapter(folder: Path) -> dict[str, Any]:
    settings = _json(folder / ADAPTER_CONFIG)
    if not (folder / ADAPTER_WEIGHTS).exists():
        has_pickle = (folder / "adapter_model.bin").exists()
        raise ArtifactError(
            "the weights are in adapter_model.bin, a pickle file, which can run code"
            if has_pickle
            else "the folder has no adapter_model.safetensors",
            where=str(folder),
            fix="where you trust it, open it with PeftModel.from_pretrained and save it again with "
            "save_pretrained(DIR, safe_serialization=True)"
            if has_pickle
            else "give the folder that the tool wrote at the end of training",
        )
    if settings.get("peft_type") not in TYPES:
        raise ArtifactError(
            f"the adapter's kind is {settings.get('peft_type')}; {', '.join(TYPES)} can be adopted",
            where=str(folder / ADAPTER_CONFIG),
            fix="merge it into its base with the tool that trained it, and adopt the merged model",
        )
    source.stored_tensors(folder / ADAPTER_WEIGHTS)
    return settings


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ArtifactError("this file is no valid JSON", where=str(path), fix="copy the folder again") from None


def template_of(folder: Path) -> str | None:
    """The chat template that lies beside the weights; None where there is none."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    found = _json(settings).get("chat_template") if settings.exists() else None
    if isinstance(found, list):
        found = next((item.get("template") for item in found if item.get("name") == "default"), None)
    return found if isinstance(found, str) and found else None


def other_rendering(template: str, tokenizer: ChatTokenizer) -> str:
    """The first conversation that `template` and the base's own template render differently, with both texts; empty
    where none does. Tools write the same template in other words."""
    from tunewright.release.probes import CONVERSATIONS

    theirs = ChatTemplate(template, tokenizer.template.names)
    if theirs.sha256 == tokenizer.template.sha256:
        return ""
    for messages in CONVERSATIONS:
        for prompt in (True, False):
            turns = messages if prompt else messages[:-1]
            if not turns:
                continue
            ours, found = (one.render(turns, generation_prompt=prompt) for one in (tokenizer.template, theirs))
            if ours != found:
                return f"{turns[-1].content!r} is rendered {found!r} there and {ours!r} by the base"
    return ""


def other_tokenizer(folder: Path, base: Path) -> str:
    """How the folder's tokenizer differs from the base's; empty where it has none or the same tokens with the same
    ids. Tools write the file anew, so its bytes may differ."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return ""
    theirs, ours = (_tokens(_json(place / "tokenizer.json")) for place in (folder, base))
    if theirs == ours:
        return ""
    new, gone = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    if new or gone:
        return f"{len(new)} new tokens ({', '.join(map(repr, new[:3]))}) and {len(gone)} missing ones"
    moved = next(token for token, index in theirs.items() if ours[token] != index)
    return f"the token {moved!r} has id {theirs[moved]}, in the base {ours[moved]}"


def _tokens(document: dict[str, Any]) -> dict[str, int]:
    vocabulary = document["model"]["vocab"]
    pairs = enumerate(entry[0] for entry in vocabulary) if isinstance(vocabulary, list) else None
    known = {str(token): index for index, token in pairs} if pairs else {str(t): int(i) for t, i in vocabulary.items()}
    return known | {str(token["content"]): int(token["id"]) for token in document.get("added_tokens", ())}
