"""Models that come and go while the server runs: by name from the registry, and whatever is promoted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tunewright.core import promoted
from tunewright.core.errors import TunewrightError
from tunewright.core.runs import Workspace
from tunewright.models.config import ModelConfig
from tunewright.serve import wire
from tunewright.serve.cache.key import Identity
from tunewright.serve.choose import Choice, Wants, choose, choose_named
from tunewright.serve.desk import Desk
from tunewright.serve.fleet import Fleet, RunningEngine
from tunewright.serve.scores import scores_of
from tunewright.serve.switch import Served, Switch

FOLLOW_S = 1.0


@dataclass(frozen=True)
class Sources:
    """Where models come from. make: an engine for a choice, not started; follow: take over what is promoted."""

    workspace: Workspace
    model: ModelConfig
    make: Callable[[Choice], RunningEngine]
    say: Callable[[str], None]
    primary: str = ""
    follow: bool = False
    at_start: tuple[str, ...] = ()
    wants: Wants = "weights"
    """What the engines that `make` makes open."""


class Roster:
    """Brings models in and out. All methods belong to the server's event loop."""

    def __init__(self, sources: Sources, fleet: Fleet, switch: Switch) -> None:
        self._sources, self._fleet, self._switch = sources, fleet, switch
        self._lock = asyncio.Lock()
        self._pointer = _pointer(sources.workspace)

    async def load(self, name: str) -> None:
        """Serves the registered model `name`, again if it was there. Raises TunewrightError; nothing changes then."""
        async with self._lock:
            workspace = self._sources.workspace
            wants = self._sources.wants
            choice = await asyncio.to_thread(choose_named, workspace, self._sources.model, name, wants=wants)
            engine = self._sources.make(choice)
            await self._fleet.add(name, engine)
            self._switch.named[name] = self._served(name, choice, engine)
            self._sources.say(f"serve: {name}: {choice.sentence}")

    async def unload(self, name: str) -> None:
        """Serves it no more; what it has accepted is answered."""
        async with self._lock:
            self._switch.check(name)
            del self._switch.named[name]
            self._fleet.remove(name)
            self._sources.say(f"serve: {name} is served no more")

    async def run(self) -> None:
        """Loads what is named in the project, then follows the promoted model until cancelled."""
        for name in self._sources.at_start:
            await self._said(f"{name} was not loaded", self.load(name))
        while self._sources.follow:
            await asyncio.sleep(FOLLOW_S)
            await self._said("the promoted model was not taken over", self._follow())

    async def _follow(self) -> None:
        """Takes over what is promoted, where that is another model than before. One that cannot be loaded is not tried
        again until the pointer moves."""
        pointer = await asyncio.to_thread(_pointer, self._sources.workspace)
        if pointer == self._pointer:
            return
        self._pointer = pointer
        async with self._lock:
            workspace = self._sources.workspace
            choice = await asyncio.to_thread(choose, workspace, self._sources.model, wants=self._sources.wants)
            engine = self._sources.make(choice)
            await self._fleet.exchange(engine)
            self._switch.main = self._served(self._switch.main.model.id, choice, engine)
            self._sources.say(f"serve: {choice.sentence}")

    def _served(self, name: str, choice: Choice, engine: RunningEngine) -> Served:
        sources, desk = self._sources, self._switch.main.desk
        return served(sources.workspace, name, choice, engine, desk=desk, primary=sources.primary)

    async def _said(self, what: str, work: Awaitable[None]) -> None:
        """Waits for `work`; a failure is told and the server goes on with what it has."""
        try:
            await work
        except TunewrightError as error:
            self._sources.say(f"serve: {what}: {error}")


def served(
    workspace: Workspace, name: str, choice: Choice, engine: RunningEngine, *, desk: Desk, primary: str
) -> Served:
    """What stands around an engine: its place in /v1/models, its own keys in the shared cache, its scores.
    desk: one to share cache and metrics with; primary: the metric of the scores."""
    return Served(
        model_of(workspace, name, choice),
        Desk(engine, identity_of(choice), desk.metrics, desk.cache),
        scores_of(workspace, choice, primary) if primary else {},
    )


def model_of(workspace: Workspace, name: str, choice: Choice) -> wire.Model:
    """What /v1/models tells of a choice."""
    info = choice.info
    return wire.Model(
        id=name,
        created=wire.now(),
        base=info.base,
        adapter=info.method if info.kind == "adapter" else None,
        variant=choice.variant,
        artifact=workspace.relative(choice.artifact.path),
    )


def identity_of(choice: Choice) -> Identity:
    """What answers, for the keys of the cache."""
    info = choice.info
    return Identity(
        model=f"{choice.artifact.manifest_sha256}/{choice.variant}",
        template=info.chat_template_sha256,
        adapter=(info.method or "") if info.kind == "adapter" else "",
    )


def _pointer(workspace: Workspace) -> Mapping[str, str] | None:
    """Which model is promoted; None for none."""
    current = promoted.read(workspace)
    return {"sha256": current.manifest_sha256, "variant": current.variant} if current else None
