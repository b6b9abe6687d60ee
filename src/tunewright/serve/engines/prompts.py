"""What engines that get token ids have in common: the prompt is rendered here, by the tokenizer the model was trained
with, so template, BOS and control tokens are the same in every engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunewright.core.chat import Message
from tunewright.models.request import Request, Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Size, fitted
from tunewright.serve.calls import CallReader, shown_prompt
from tunewright.serve.engines import client
from tunewright.serve.faults import NotReady, Refused
from tunewright.serve.formats import SCHEMA_PARAM
from tunewright.serve.prepared import Loaded
from tunewright.serve.wire import ApiError


def ready(loaded: Loaded | None) -> Loaded:
    """`loaded`; raises NotReady before it is there."""
    if loaded is None:
        raise NotReady("the model is loading")
    return loaded


def rendered(
    loaded: Loaded, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None
) -> tuple[Request, CallReader | None]:
    """The prompt with a length that fits, and what reads calls out of its answer. Raises as `Engine.submit`."""
    refuse_logprobs(sampling)
    ids = shown_prompt(loaded.tokenizer, messages, tools)
    request = Request(ids, fitted(len(ids), sampling, loaded.context, exact_length=exact_length))
    names = [tool["function"]["name"] for tool in tools or ()]
    return request, CallReader(loaded.tokenizer, names) if names else None


def sized(
    loaded: Loaded, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None
) -> Size:
    """How large a request is. Raises as `Engine.size`."""
    refuse_logprobs(sampling)
    prompt = len(shown_prompt(loaded.tokenizer, messages, tools))
    return Size(prompt, fitted(prompt, sampling, loaded.context, exact_length=exact_length).max_new_tokens)


def control_mark(loaded: Loaded, calls: CallReader | None) -> str:
    """The mark of a call where it is a control token, which other servers leave out of their text; else empty."""
    return calls.mark if calls and calls.mark in loaded.tokenizer.segments.controls else ""


def named_schema(schema: str) -> dict[str, Any]:
    """A response format in OpenAI's words. Every schema is asked for strictly: without it, servers only try."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": True}}


async def schema_refused(sampling: Sampling, response: client.Response) -> Refused | None:
    """The other server's 400 on a request with a schema, in its own words; None for anything else."""
    if response.status != 400 or sampling.json_schema is None:
        return None
    told = await response.json()
    error = told.get("error") if isinstance(told, dict) else None
    message = str((error if isinstance(error, dict) else {}).get("message") or "it gave no reason")[:500]
    text = f"The schema is not possible with the engine behind this server: {message}"
    return Refused(400, text, param=SCHEMA_PARAM, code="invalid_json_schema")


def refuse_logprobs(sampling: Sampling) -> None:
    """Raises ApiError: llama.cpp streams none for parts of a character, and vLLM names its tokens by their texts."""
    if sampling.logprobs is not None:
        message = "Unsupported parameter: 'logprobs' is not offered by the engine behind this server; leave it out."
        raise ApiError(400, message, param="logprobs", code="unsupported_parameter")
