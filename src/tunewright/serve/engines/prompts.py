"""What engines that get token ids have in common: the prompt is rendered here, by the tokenizer the model was trained
with, so template, BOS and control tokens are the same in every engine."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.core.chat import Message
from tunewright.models.request import Request, Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Size, fitted
from tunewright.serve.calls import CallReader, shown_prompt
from tunewright.serve.engine import Loaded
from tunewright.serve.faults import NotReady
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
    prompt = len(shown_prompt(loaded.tokenizer, messages, tools))
    return Size(prompt, fitted(prompt, sampling, loaded.context, exact_length=exact_length).max_new_tokens)


def control_mark(loaded: Loaded, calls: CallReader | None) -> str:
    """The mark of a call where it is a control token, which other servers leave out of their text; else empty."""
    return calls.mark if calls and calls.mark in loaded.tokenizer.segments.controls else ""


def refuse_logprobs(sampling: Sampling) -> None:
    """Raises ApiError: other servers count probabilities in other ways, or leave some out."""
    if sampling.logprobs is not None:
        message = "Unsupported parameter: 'logprobs' is not offered by the engine behind this server; leave it out."
        raise ApiError(400, message, param="logprobs", code="unsupported_parameter")
