"""The quantized variants as steps: proven bytes, lineage and tokenizer first, then each in its own engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunewright.chain import rendering
from tunewright.chain.links import EngineLink, Link
from tunewright.chain.rendering import Rendering
from tunewright.chain.steps import Step
from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.manifest import InputRef
from tunewright.core.runs import Artifact
from tunewright.models import tuned
from tunewright.models.config import ModelInfo
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import ChatTokenizer

if TYPE_CHECKING:
    from tunewright.chain.sources import Merge, Place

SIXTEEN = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Variants that are the merged model in 16 bits."""


class Variants:
    """The steps of one quantize artifact. merge: compares the stored 16-bit weights; context: tokens of a prompt and
    its answer."""

    def __init__(self, place: Place, quantize: Artifact, merge: Merge, context: int) -> None:
        self.place, self.quantize, self.merge, self.context = place, quantize, merge, context
        chosen = quantize.manifest.config.get("quantize", {}).get("variants", [])
        self._options: dict[str, dict[str, Any]] = {options["name"]: options for options in chosen}
        if place.dtype == torch.float32:  # quantize rounds once, to its first 16-bit format
            first = next((name for name in self._options if name in SIXTEEN), "bf16")
            merge.rounded = SIXTEEN[first]

    def steps(self) -> list[Step]:
        """In the order of the table."""
        return [self._step(row) for row in self.quantize.json("table.json")]

    def _step(self, row: dict[str, Any]) -> Step:
        scheme, accepted = str(row["scheme"]), bool(row["accepted"])
        against = self.place.reference
        limit = self._options.get(scheme, {}).get("max_loss")
        describes = f"{self.place.workspace.relative(self.quantize.path)}/{scheme} in {row['engine']}"
        other = self._other_training()
        try:
            folder = self.quantize.folder(scheme)
            info = ModelInfo.model_validate(self.quantize.json(f"{scheme}/{tuned.INFO}"))
            shown = self._rendering(folder)
        except ArtifactError as error:
            link: Link = self.place.local(scheme, lambda: None)
            return Step(link, "measured", against, describes, faults=(error.problem, *other), accepted=accepted)
        if scheme in SIXTEEN and not other:
            self.merge.stored[scheme] = folder
        return Step(
            self._link(scheme, folder, info),
            "stored" if scheme in SIXTEEN else "measured",
            against,
            describes,
            faults=tuple(other),
            doubts=tuple(self._other_tokenizer(folder)),
            max_loss=limit,
            accepted=accepted,
            rendering=shown,
            weights=lambda: self.merge.differences.get(scheme),
        )

    def _other_training(self) -> list[str]:
        """The lineage: these variants must come from the very training whose chain this is."""
        train, workspace = self.place.train, self.place.workspace
        inputs: list[InputRef] = list(self.quantize.manifest.inputs)
        if any(reference.sha256 == train.manifest_sha256 for reference in inputs):
            return []
        ours = workspace.relative(train.path)
        named = [reference.path for reference in inputs if "/train/" in reference.path]
        if ours in named:
            return [f"it was made from {ours} before that was changed"]
        return [f"it was made from another training: {named[0] if named else 'unknown'}, not {ours}"]

    def _rendering(self, folder: Path) -> Rendering:
        tokenizer = ChatTokenizer.load(folder)
        found = rendering.of_tokenizer(tokenizer, ())
        return Rendering(found.template_sha256, None, found.stops)  # it is asked with our token ids

    def _other_tokenizer(self, folder: Path) -> list[str]:
        same = files.sha256(folder / "tokenizer.json") == files.sha256(self.place.base / "tokenizer.json")
        return [] if same else ["its tokenizer.json is not the base's"]

    def _link(self, scheme: str, folder: Path, info: ModelInfo) -> Link:
        place = self.place
        file = next(folder.glob("*.gguf"), None)
        if file is not None:
            return EngineLink(scheme, file, self._llama)
        trust = place.project.model.trust_remote_code

        def load() -> Any:
            own = getattr(torch, info.dtype, torch.bfloat16)
            dtype = torch.float32 if place.dtype == torch.float32 else own
            if info.bits >= 16:
                return for_inference(load_model(folder, dtype=dtype, trust_remote_code=trust))
            from tunewright.models.compressed import load_compressed

            return load_compressed(folder, dtype=dtype)

        return place.local(scheme, load)

    def _llama(self, path: Path) -> Any:
        from tunewright.quantize.engines import LlamaCppEngine

        return LlamaCppEngine(path, self.place.tokenizer, context=self.context)
