"""The steps of a project's chain, from its artifacts: which links there are, how each is opened, what it must equal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunewright.chain import served
from tunewright.chain.door import Door
from tunewright.chain.links import LocalLink, ServerLink
from tunewright.chain.steps import Claim, Step
from tunewright.chain.weights import WeightDifference, compare
from tunewright.core import files
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source, tuned
from tunewright.models.load import choose_dtype, for_inference, load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.project import ProjectConfig

if TYPE_CHECKING:
    from tunewright.serve.choose import Choice

BASE, ADAPTER, MERGED, TUNED, SERVER = "base", "adapter", "merged", "tuned", "server"


@dataclass(frozen=True)
class Place:
    """Where everything lies. quantize: None where there is none or the chain was told to leave it out."""

    workspace: Workspace
    project: ProjectConfig
    data: Artifact
    train: Artifact
    quantize: Artifact | None

    @cached_property
    def base(self) -> Path:
        """The base model's folder."""
        return source.resolve(self.project.model, self.workspace.root)

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        """The base's, which training used."""
        return ChatTokenizer.load(self.base)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The number format that the tuned model is used in."""
        return choose_dtype(self.project.model.dtype)

    @cached_property
    def reference(self) -> str:
        """The step that is the tuned model as it is used."""
        if tuned.model_info(self.train).kind == "full":
            return TUNED
        return MERGED if tuned.merges(self.train) else ADAPTER

    @cached_property
    def front(self) -> int:
        """Positions that a trained prefix takes."""
        if self.reference != ADAPTER:
            return 0
        path = self.train.file(f"{tuned.ADAPTER}/adapter_config.json")
        return int(json.loads(path.read_text(encoding="utf-8")).get("num_virtual_tokens") or 0)

    def local(self, name: str, load: Callable[[], Any]) -> LocalLink:
        """load: gives the model ready to generate."""
        return LocalLink(name, self.tokenizer, load, batch_size=self.project.evaluate.batch_size)

    def open_tuned(self, *, merge: bool) -> Any:
        """The tuned model before it is made ready to generate."""
        return tuned.open_tuned(self.train, self.project.model, self.base, dtype=self.dtype, merge=merge)


@dataclass
class Merge:
    """The merged model. Stored merges are compared with it when it is opened, before its weights are packed.

    stored: folder of each 16-bit variant; rounded: the format that all of them went through.
    """

    open: Callable[[], Any]
    stored: dict[str, Path] = field(default_factory=dict)
    rounded: torch.dtype | None = None
    differences: dict[str, WeightDifference] = field(default_factory=dict)

    def load(self) -> Any:
        """Ready to generate."""
        model = self.open()
        for scheme in set(self.stored) - set(self.differences):
            self.differences[scheme] = compare(model, self.stored[scheme], rounded=self.rounded)
        return for_inference(model)


def build(place: Place, *, door: Door | None, most_tokens: int = 0) -> list[Step]:
    """All steps in their order. door: a running server to ask instead of starting one; most_tokens: of the longest
    prompt and its answer, for engines that must know."""
    from tunewright.chain.variants import Variants

    merge = Merge(lambda: place.open_tuned(merge=True))
    steps = [_base(place), *_tuned_steps(place, merge)]
    variants: list[Step] = []
    if place.quantize is not None:
        variants = Variants(place, place.quantize, merge, most_tokens).steps()
    servers = [_running(place, door, variants)] if door else _own_servers(place, variants)
    return [*steps, *variants, *servers]


def _base(place: Place) -> Step:
    trust = place.project.model.trust_remote_code
    link = place.local(BASE, lambda: for_inference(load_model(place.base, dtype=place.dtype, trust_remote_code=trust)))
    return Step(link, "start", describes="the base model, asked as the tuned one is")


def _tuned_steps(place: Place, merge: Merge) -> list[Step]:
    doubts = tuple(_tokenizer_doubts(place))
    if place.reference == TUNED:
        link = place.local(TUNED, merge.load)
        return [Step(link, "changes", BASE, "the fully trained weights", doubts=doubts)]
    beside = place.local(ADAPTER, lambda: for_inference(place.open_tuned(merge=False)))
    found = [Step(beside, "changes", BASE, "the base with its adapter beside it", doubts=doubts)]
    if place.reference == MERGED:
        merged = place.local(MERGED, merge.load)
        found.append(Step(merged, "equal", ADAPTER, "the adapter merged into the base's weights"))
    return found


def _tokenizer_doubts(place: Place) -> Iterator[str]:
    """Whether the training rows were proven with the tokenizer that is used now."""
    known = place.data.manifest.config.get("tokenizer")
    proven = known.get("sha256") if isinstance(known, dict) else None
    if proven and proven != files.sha256(place.base / "tokenizer.json"):
        yield "its tokenizer.json is not the one that the training rows were made with"


def _own_servers(place: Place, variants: list[Step]) -> list[Step]:
    """A server of the tuned model, and of the variant that `tunewright serve` would take instead."""
    from tunewright.serve.choose import choose, choose_from

    workspace, project, quantize = place.workspace, place.project, place.quantize
    choice = choose(workspace, project.model, source_directory=place.train.path)
    asked = dataclasses.replace(choice, sentence=f"starting a server of {workspace.relative(place.train.path)}")
    maker = served.maker_of(project.serve, opens_weights=True)
    found = [_server(place, SERVER, place.reference, asked, maker)]
    usable = {step.name: step for step in variants if not step.faults}
    if quantize is not None and quantize.manifest.passed and usable:
        maker = served.maker_of(project.serve)
        chosen = choose_from(workspace, project.model, quantize=quantize, train=place.train, wants=maker.wants)
        if chosen.variant in usable:
            step = _server(place, f"{SERVER} ({chosen.variant})", chosen.variant, chosen, maker)
            is_exact = isinstance(usable[chosen.variant].link, LocalLink)
            found.append(step if is_exact else dataclasses.replace(step, claim="measured"))
    return found


def _server(place: Place, name: str, against: str, choice: Choice, maker: Any) -> Step:
    config, project = place.project.serve, place.workspace.project
    link = ServerLink(name, lambda: served.started(choice, config, maker, name=project))
    return Step(link, "equal", against, f"a server of {choice.variant} over HTTP")


def _running(place: Place, door: Door, variants: list[Step]) -> Step:
    """Compared with the variant that the server says it serves, else with the tuned model."""
    variant = door.about.get("variant")
    chosen = next((step for step in variants if step.name == variant and not step.faults), None)
    against = chosen.name if chosen else place.reference
    is_exact = chosen is None or isinstance(chosen.link, LocalLink)
    from_variant = against != place.reference and place.quantize is not None
    artifact = place.quantize if from_variant and place.quantize else place.train

    @contextmanager
    def opened() -> Iterator[tuple[Door, None]]:
        yield door, None

    link = ServerLink(SERVER, opened)
    says = place.workspace.relative(artifact.path)
    claim: Claim = "equal" if is_exact else "measured"
    return Step(link, claim, against, f"the server at {door.address.text}", artifact=says)
