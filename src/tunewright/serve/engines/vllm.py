"""The engine `vllm`: vLLM in a process of its own, asked with token ids over its `/v1/completions`.

Tuned models of one base share one vLLM (multi-LoRA): the first starts it, each brings its adapter, the last ends it.
Sampling defaults of the model's own folder are turned off, so that an answer depends on the request alone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError, MissingExtraError, ResourceError
from tunewright.models.request import Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Size
from tunewright.serve.choose import Choice, Files
from tunewright.serve.engines import client, prompts
from tunewright.serve.engines.child import Child, Program
from tunewright.serve.engines.config import VllmOptions
from tunewright.serve.engines.http_engine import Asked, Place, UpstreamEngine
from tunewright.serve.engines.speech import Piece
from tunewright.serve.faults import EngineFault
from tunewright.serve.prepared import Loaded

BASE = "base"
RANKS = (8, 16, 32, 64, 128, 256, 512)
"""vLLM reserves room for adapters of one of these ranks."""
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
_LORA_CALLS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


class Vllm:
    """Makes engines for folders of weights and for LoRA adapters."""

    wants = "weights"

    def __init__(self, options: VllmOptions) -> None:
        self._options = options
        self._shared: dict[Path, SharedVllm] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def make(self, choice: Choice, place: Place) -> UpstreamEngine:
        """An engine, not started. Raises MissingExtraError without a Python that has vLLM."""
        choice.refuse_gguf()
        python_of(self._options.python)
        name = f"{choice.artifact.manifest_sha256[:12]}-{next(self._numbers)}"
        return UpstreamEngine(VllmUpstream(name, choice, self, place.batch_size), place)

    def server_for(self, files: Files, slots: int) -> SharedVllm:
        """The vLLM of this base; one for each rank that it was started for."""
        with self._lock:
            rank = rank_of(files.adapter, least=self._options.adapter_rank) if files.adapter else 0
            found = self._shared.get(files.folder)
            if found is None or found.rank < rank:
                found = self._shared[files.folder] = SharedVllm(self._options, files.folder, rank, slots)
            return found


@dataclass(eq=False)
class SharedVllm:
    """One vLLM process; `rank`: of the largest adapter it takes, 0 for none. Methods are called on any thread."""

    options: VllmOptions
    folder: Path
    rank: int
    slots: int

    def __post_init__(self) -> None:
        env = _QUIET | (_LORA_CALLS if self.rank else {})
        program = Program("vLLM", self._words, "VLLM_API_KEY", env, self.options.start_timeout_s)
        self.child = Child(program)
        self._lock = threading.Lock()
        self._users: set[str] = set()
        self.starts = 0
        """How often it was started: an adapter loaded into an earlier one is gone."""

    def join(self, name: str, adapter: Path | None, stopping: threading.Event) -> int:
        """Starts it where it does not run, brings the adapter; which start it is. Raises ResourceError."""
        with self._lock:
            self._users.add(name)
            if self.starts == 0 or self.child.ended() is not None:
                self.child.stop()
                self.child.start(stopping)
                self.starts += 1
            if adapter is not None and not stopping.is_set():
                self.child.ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)})
            return self.starts

    def leave(self, name: str, adapter: Path | None) -> None:
        """Takes the adapter away; the last one ends the process."""
        with self._lock:
            if name not in self._users:
                return
            self._users.discard(name)
            if not self._users:
                self.child.stop()
            elif adapter is not None and self.child.ended() is None:
                with contextlib.suppress(ResourceError):  # one that stays only costs memory
                    self.child.ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def _words(self, port: int) -> list[str]:
        given = self.options
        words = [python_of(given.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.folder)]
        words += ["--served-model-name", BASE, "--host", "127.0.0.1", "--port", str(port)]
        words += ["--generation-config", "vllm", "--max-num-seqs", str(self.slots)]
        words += ["--gpu-memory-utilization", f"{given.gpu_memory:g}", "--tensor-parallel-size", str(given.gpus)]
        if given.context is not None:
            words += ["--max-model-len", str(given.context)]
        if self.rank:
            words += ["--enable-lora", "--max-lora-rank", str(self.rank), "--max-loras", str(given.adapters)]
        return words


class VllmUpstream:
    """One model or adapter of a vLLM."""

    name = "vllm"

    def __init__(self, model: str, choice: Choice, room: Vllm, slots: int) -> None:
        self._model, self._choice, self._room, self._slots = model, choice, room, slots
        self._files: Files | None = None
        self._shared: SharedVllm | None = None
        self._start = 0
        self.loaded: Loaded | None = None

    def start(self, stopping: threading.Event) -> None:
        """Opens the tokenizer, joins the vLLM of the base, asks it how much it takes."""
        files = self._files = self._files or self._choice.files()
        shared = self._shared = self._room.server_for(files, self._slots)
        self._start = shared.join(self._model, files.adapter, stopping)
        if not stopping.is_set():
            rows = shared.child.ask("GET", "/v1/models")["data"]
            told = next((row.get("max_model_len") for row in rows if row["id"] == BASE), None)
            most = files.tokenizer.max_length
            self.loaded = Loaded(None, files.tokenizer, min(most, int(told)) if told else most)

    def child_address(self) -> client.Address:
        """Where its vLLM listens."""
        assert self._shared is not None
        return self._shared.child.address

    def ended(self) -> str | None:
        """Why vLLM runs no more; one that was started again lacks this adapter."""
        assert self._shared is not None
        again = None if self._shared.starts == self._start else "it was started again"
        return self._shared.child.ended() or again

    def stop(self) -> None:
        """Leaves the vLLM of the base."""
        if self._shared is not None and self._files is not None:
            self._shared.leave(self._model, self._files.adapter)

    def ask(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Asked:
        """Renders the prompt (see `Upstream`)."""
        loaded = prompts.ready(self.loaded)
        request, calls = prompts.rendered(loaded, messages, sampling, exact_length=exact_length, tools=tools)
        asks, ends = request.sampling, loaded.tokenizer.end_ids
        body: dict[str, Any] = {
            "model": self._model if self._files and self._files.adapter else BASE,
            "prompt": request.prompt_ids,
            "max_tokens": asks.max_new_tokens,
            "temperature": asks.temperature,
            "top_p": asks.top_p or 1e-6,  # vLLM takes no 0, which means the most probable token alone
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "skip_special_tokens": not prompts.control_mark(loaded, calls),
            "ignore_eos": asks.ignore_end,
            "stop_token_ids": [] if asks.ignore_end else sorted(ends),
        }
        if asks.seed is not None:
            body["seed"] = asks.seed
        if asks.json_schema is not None:
            body["response_format"] = prompts.named_schema(asks.json_schema)
        return Asked(request, body, calls)

    def size(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Size:
        """How large a request is (see `Upstream`)."""
        return prompts.sized(prompts.ready(self.loaded), messages, sampling, exact_length=exact_length, tools=tools)

    async def pieces(self, asked: Asked) -> AsyncIterator[Piece]:
        """The stream (see `Upstream`)."""
        async with client.request(self.child_address(), "POST", "/v1/completions", asked.body) as response:
            if refused := await prompts.schema_refused(asked.request.sampling, response):
                raise refused
            if response.status != 200:
                raise EngineFault(f"vLLM refused the request ({response.status}).")
            async for event in response.events():
                if "error" in event:
                    raise EngineFault("vLLM failed on this request.")
                tokens = int((event.get("usage") or {}).get("completion_tokens", 0))
                for choice in event["choices"]:
                    finish = choice.get("finish_reason")
                    if finish not in (None, "stop", "length"):
                        raise EngineFault(f"vLLM ended this request ({finish}).")
                    # an end token is counted there and not here
                    yield Piece(choice["text"], tokens - (finish == "stop"), finish)


def python_of(named: str) -> str:
    """The Python that has vLLM. Raises MissingExtraError when there is none."""
    if named:
        if not Path(named).is_file():
            raise MissingExtraError(
                "there is no such Python", where=f"serve.engine.python: {named}", fix="name /path/to/venv/bin/python"
            )
        return named
    if find_spec("vllm") is None:
        raise MissingExtraError(
            "the engine vllm needs a Python that has vLLM, and ours has not",
            where="serve.engine",
            fix="python -m venv vllm && vllm/bin/pip install vllm, then {name: vllm, python: vllm/bin/python}",
        )
    return sys.executable


def rank_of(adapter: Path, *, least: int = 1) -> int:
    """The room that an adapter needs in vLLM, at least `least`. Raises ArtifactError for one that is no plain LoRA."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise ArtifactError(
            f"vLLM serves LoRA adapters only, and this is {config.get('peft_type')}",
            where=str(adapter),
            fix="serve the bf16 variant of quantize, into which it is merged, or set serve.engine to transformers",
        )
    needed = max([least, int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    found = next((rank for rank in RANKS if rank >= needed), None)
    if found is None:
        raise ArtifactError(f"vLLM takes no adapter of rank {needed}", where=str(adapter), fix="quantize to bf16 first")
    return found
