"""What the train stage does differently with several ranks: one artifact, one resume, one set of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright.core import files, manifest
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.events import Events
from tunewright.core.manifest import InputRef
from tunewright.core.registry import PluginOptions
from tunewright.core.runs import Artifact, Output, Workspace
from tunewright.train.method import Method
from tunewright.train.precision import Precision
from tunewright.train.sharding.options import SHARDINGS
from tunewright.train.sharding.strategy import Strategy, trained
from tunewright.train.sharding.world import World

RANKS = "ranks.json"


def formats_for(options: PluginOptions, formats: Precision, method: Method) -> Precision:
    """The number formats under this sharding. Raises ConfigError for what it cannot do, before anything starts.

    ZeRO makes its float32 masters itself, from 16-bit weights; FSDP computes in 16 bits by a policy of its own.
    """
    name = options.name
    if formats.autocast == "fp16":
        raise ConfigError(
            "float16 needs its loss scaled, which is not done over several devices",
            where="model.dtype",
            fix="use model.dtype=bfloat16 or float32",
        )
    if name == "ddp":
        return formats
    if method.base_bits:
        raise ConfigError(
            f"a base in {method.base_bits} bits cannot be divided by {name}",
            where="train.method.base_bits",
            fix="use train.sharding.name=ddp: a quantized base is small enough to lie on each device",
        )
    return replace(formats, autocast="", has_masters=formats.has_masters and name != "zero")


def make(options: PluginOptions, world: World, formats: Precision) -> Strategy:
    """The strategy of this training. Raises MissingExtraError with the pip line where its library is absent."""
    strategy: Strategy = SHARDINGS.target(options.name)(options, world, formats)
    return strategy


def finished(workspace: Workspace, settings: Mapping[str, Any], inputs: tuple[InputRef, ...]) -> Artifact | None:
    """The finished training of these settings and inputs, by however many ranks."""
    mark = manifest.fingerprint("train", settings, inputs)
    return next((found for found in reversed(workspace.finished("train")) if found.manifest.fingerprint == mark), None)


def begin(world: World, workspace: Workspace, start: Callable[[], Output | Artifact]) -> Output | Artifact:
    """The first rank opens the folder and keeps its lock; the others look on and write no event.

    Raises ArtifactError where a rank on another machine does not see the folder.
    """
    if world.is_first:
        output = start()
        world.share((str(workspace.relative(output.path)), isinstance(output, Artifact)))
        return output
    place, is_finished = world.share(("", False))
    path = workspace.root / place
    if not path.is_dir():
        raise ArtifactError(
            f"rank {world.rank} does not see the folder of this training",
            where=str(path),
            fix="all machines need the project's folder on a disk that they share",
        )
    if is_finished:
        return Artifact.open(path)
    output = Output(workspace, path, {}, -1, resumed=False)
    output.events = Events()
    return output


def seal(world: World, output: Output, close: Callable[[Output], Artifact]) -> Artifact:
    """The first rank seals, the others wait for it and open what it has sealed."""
    if world.is_first:
        artifact = close(output)
        world.wait()
        return artifact
    world.wait()
    return Artifact.open(output.path)


def prove_same_ranks(world: World, checkpoints: Path, text: str) -> None:
    """Checkpoints go on with as many ranks, sharded in the same way. Raises ConfigError on every rank."""
    problem = world.share(_other_ranks(checkpoints, {"ranks": world.size, "sharding": text}) if world.is_first else "")
    if problem:
        raise ConfigError(
            problem, where=str(checkpoints.parent), fix="start as many ranks, or remove this folder to begin again"
        )


def _other_ranks(checkpoints: Path, now: dict[str, Any]) -> str:
    place = checkpoints / RANKS
    if place.exists():
        before = json.loads(place.read_text(encoding="utf-8"))
        if before != now and any(checkpoints.glob("checkpoint-*")):
            return (
                f"this training was begun by {before['ranks']} ranks with {before['sharding']}, and now there are "
                f"{now['ranks']} with {now['sharding']}"
            )
    checkpoints.mkdir(parents=True, exist_ok=True)
    files.write_json(place, now)
    return ""


@torch.no_grad()
def fill(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Puts trained weights into a model that is not sharded, in its own number format; tied ones stay tied."""
    places = trained(model)
    assert places.keys() == weights.keys(), "the plain model trains what the sharded one did"
    for name, weight in weights.items():
        places[name].copy_(weight)
