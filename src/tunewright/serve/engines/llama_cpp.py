"""The engine `llamacpp`: llama.cpp in a process of its own, asked with token ids over its own `/completion`.

Its samplers are set to exactly ours (temperature, then top-p): by itself it also applies top-k, min-p and more. What it
streams are texts with counts; ids of tokens that are part of a character are missing from its stream, so the text is
taken from it and only the ids that end an answer are looked at.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError
from tunewright.models import llama_program
from tunewright.models.constraint import check_schema
from tunewright.models.request import Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Size
from tunewright.serve.choose import Choice, Files
from tunewright.serve.engines import client, prompts
from tunewright.serve.engines.child import Child, Program
from tunewright.serve.engines.config import LlamaCppOptions
from tunewright.serve.engines.http_engine import Asked, Place, UpstreamEngine
from tunewright.serve.engines.llama_schema import unenforced
from tunewright.serve.engines.speech import Piece
from tunewright.serve.faults import EngineFault
from tunewright.serve.formats import SCHEMA_PARAM
from tunewright.serve.prepared import Loaded
from tunewright.serve.wire import ApiError

_SEEDS = 2**32 - 1
"""llama.cpp's seeds have 32 bits, and the last one means a random one."""
_FINAL = ["stop", "stop_type", "tokens_predicted"]
"""What its last event holds; by itself it sends the prompt back."""


class LlamaCpp:
    """Makes engines for GGUF variants."""

    wants = "gguf"

    def __init__(self, options: LlamaCppOptions) -> None:
        self._options = options

    def make(self, choice: Choice, place: Place) -> UpstreamEngine:
        """An engine, not started. Raises ArtifactError for anything but a GGUF variant, MissingExtraError without
        llama.cpp."""
        if not choice.is_gguf:
            raise ArtifactError(
                "llama.cpp serves GGUF variants, and this one is none",
                where=str(choice.artifact.path),
                fix="add {name: gguf-q8_0} to quantize.variants, or set serve.engine to transformers",
            )
        llama_program.check_present("serving a GGUF variant")
        return UpstreamEngine(LlamaUpstream(choice.files, self._options, slots=place.batch_size), place)


class LlamaUpstream:
    """A llama.cpp server of ours."""

    name = "llamacpp"

    def __init__(self, files: Any, options: LlamaCppOptions, *, slots: int) -> None:
        """files: opens what is served, on the engine's thread."""
        self._open_files, self._options, self._slots = files, options, slots
        self._files: Files | None = None
        self._context = options.context
        self.loaded: Loaded | None = None
        self.child = Child(
            Program(
                "llama.cpp",
                self._words,
                llama_program.KEY,
                start_timeout_s=options.start_timeout_s,
                reason=llama_program.reason_in,
            )
        )

    def start(self, stopping: threading.Event) -> None:
        """Opens the tokenizer, starts llama.cpp, asks it how much it takes."""
        if self._files is None:
            self._files = self._open_files()
        self._context = min(self._options.context, self._files.tokenizer.max_length)
        self.child.start(stopping)
        if not stopping.is_set():
            told = self.child.ask("GET", "/props")["default_generation_settings"]["n_ctx"]
            self.loaded = Loaded(None, self._files.tokenizer, min(self._context, int(told)))

    def _words(self, port: int) -> list[str]:
        assert self._files is not None and self._files.gguf is not None
        path = str(self._files.gguf)
        settings = llama_program.LlamaSettings(path, self._context, self._slots, port, self._options.threads)
        return llama_program.words_for(settings)

    def ended(self) -> str | None:
        """Why llama.cpp runs no more."""
        return self.child.ended()

    def stop(self) -> None:
        """Ends llama.cpp."""
        self.child.stop()

    def ask(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Asked:
        """Renders the prompt (see `Upstream`)."""
        loaded = prompts.ready(self.loaded)
        schema = checked_schema(sampling)
        request, calls = prompts.rendered(loaded, messages, sampling, exact_length=exact_length, tools=tools)
        body = {"prompt": request.prompt_ids, **sampled(request.sampling), "stream": True, "return_tokens": True}
        body |= {"cache_prompt": True, "response_fields": _FINAL}
        if mark := prompts.control_mark(loaded, calls):
            body["preserved_tokens"] = [mark]
        if schema is not None:
            body["json_schema"] = schema
        return Asked(request, body, calls)

    def size(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Size:
        """How large a request is (see `Upstream`)."""
        checked_schema(sampling)
        return prompts.sized(prompts.ready(self.loaded), messages, sampling, exact_length=exact_length, tools=tools)

    async def pieces(self, asked: Asked) -> AsyncIterator[Piece]:
        """The stream (see `Upstream`)."""
        tokenizer = prompts.ready(self.loaded).tokenizer
        is_first = True
        async with client.request(self.child.address, "POST", "/completion", asked.body) as response:
            if refused := await prompts.schema_refused(asked.request.sampling, response):
                raise refused
            if response.status != 200:
                raise EngineFault(f"llama.cpp refused the request ({response.status}).")
            async for event in response.events():
                if "error" in event:
                    raise EngineFault("llama.cpp failed on this request.")
                tokens, ids = int(event["tokens_predicted"]), event.get("tokens") or ()
                if event.get("stop"):
                    ended = event["stop_type"] == "eos" and not asked.request.sampling.ignore_end
                    yield Piece("", tokens - ended, "stop" if event["stop_type"] != "limit" else "length")
                    return
                if ids and ids[-1] in tokenizer.end_ids and not asked.request.sampling.ignore_end:
                    yield Piece("", tokens - 1, "stop")
                    return
                text = event["content"]
                if is_first and text.startswith(" ") and not tokenizer.decode(ids).startswith(" "):
                    text = text[1:]  # the blank in front of a first word is the tokenizer's, not the answer's
                is_first = is_first and not text
                yield Piece(text, tokens)


def checked_schema(sampling: Sampling) -> Any:
    """The schema that the answer must follow, None for none. Raises ApiError for one that llama.cpp would only follow
    in part; SchemaRefused or MissingExtraError as `check_schema`: a llama.cpp that is built with llguidance answers as
    if there were no schema where it cannot take one."""
    if sampling.json_schema is None:
        return None
    check_schema(sampling.json_schema)
    schema = json.loads(sampling.json_schema)
    if found := unenforced(schema):
        place, what = found
        param = ".".join([SCHEMA_PARAM, *place])
        message = f"Invalid schema in '{param}': the engine behind this server does not enforce {what}."
        raise ApiError(400, message, param=param, code="invalid_json_schema")
    return schema


def sampled(sampling: Sampling) -> dict[str, Any]:
    """Our sampling in llama.cpp's words."""
    body: dict[str, Any] = {
        "n_predict": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "samplers": ["temperature", "top_p"],
        "top_p": sampling.top_p,
        "ignore_eos": sampling.ignore_end,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % _SEEDS
    return body
