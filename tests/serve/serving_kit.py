"""What the serve tests share: a tiny model whose steps can be held or made to fail, and a server around it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.source import resolve
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.app import Parts
from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.prepared import Loaded
from tunewright.serve.server import Server, in_thread
from tunewright.serve.wire import Model

MODEL = "desk"
DEADLINE_S = 60.0
HELLO = [{"role": "user", "content": "Hello, who are you?"}]


class HeldModel:
    """A model that waits at `gate` before each pass, and raises `fault` once when it is set."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = model.device
        self.config = model.config
        self.gate = threading.Event()
        self.gate.set()
        self.closes_after: int | None = None  # passes, after which the gate closes by itself
        self.held = False  # a pass waits at the gate, so the engine's thread stands still
        self.fault: Exception | None = None
        self.passes = 0

    def __call__(self, **inputs: Any) -> Any:
        if self.passes == self.closes_after:
            self.gate.clear()
        self.held = not self.gate.is_set()
        assert self.gate.wait(2 * DEADLINE_S), "the test never opened the gate"
        self.held = False
        self.passes += 1
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return self._model(**inputs)


def tiny_folder() -> Path:
    return resolve(ModelConfig(path="builtin:tiny"), Path())


def tiny(*, ends: bool = False) -> Loaded:
    """The tiny model with weights that make its answers vary (as it comes it repeats one token). Unless `ends`, no
    token ends an answer, so that its length is max_tokens."""
    folder = tiny_folder()
    model = load_model(folder, dtype=torch.float32)
    with torch.no_grad():
        for layer in model.model.layers:
            for weight in layer.parameters():
                weight.mul_(12 if weight.dim() == 2 else 1)
    tokenizer = ChatTokenizer.load(folder)
    if not ends:
        tokenizer.end_ids = frozenset()
    return Loaded(HeldModel(model), tokenizer, 512)


class ScriptedModel(HeldModel):
    """Says `script` (token ids) to every prompt, one request at a time. asked: the ids of the last prompt."""

    def __init__(self, model: Any, script: Sequence[int]) -> None:
        super().__init__(model)
        self.script = list(script)
        self.asked: list[int] = []
        self._place = 0

    def __call__(self, **inputs: Any) -> Any:
        output = super().__call__(**inputs)
        if inputs["input_ids"].shape[1] > 1:
            self.asked, self._place = inputs["input_ids"][0].tolist(), 0
        output.logits[:, -1] = -1e9  # sure at any temperature
        output.logits[:, -1, self.script[self._place]] = 1
        self._place += 1
        return output


def with_template(loaded: Loaded, source: str) -> Loaded:
    """The same model and vocabulary with another chat template."""
    known = loaded.tokenizer
    tokenizer = ChatTokenizer(Tokenizer.from_file(str(tiny_folder() / "tokenizer.json")), known.settings, source, [])
    tokenizer.end_ids = known.end_ids
    return Loaded(loaded.model, tokenizer, loaded.context)


def named(name: str = MODEL, **parts: Any) -> Parts:
    """The parts around an engine whose model has this name; without cache, jobs or log of questions by themselves."""
    return Parts(Model(id=name, created=1), **parts)


@contextlib.contextmanager
def serving(loaded: Loaded, parts: Parts | None = None, **settings: Any) -> Iterator[tuple[str, TransformersEngine]]:
    """(URL, engine) of a running server; the gate is open again at the end."""
    config = ServeConfig(port=0, **{"shutdown_timeout_s": 5, **settings})
    engine = TransformersEngine(lambda: loaded, batch_size=config.batch_size, queue=config.queue)
    with in_thread(Server(engine, config, parts or named(), log=lambda _: None)) as url:
        try:
            yield url, engine
        finally:
            loaded.model.gate.set()


def until(condition: Callable[[], bool], what: str) -> None:
    """Polls until `condition` holds; fails with `what` after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)
