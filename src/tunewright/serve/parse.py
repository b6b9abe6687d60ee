"""From a request's bytes to a ChatRequest, or to the 400 that names what is wrong. Nothing is silently ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from tunewright.serve.formats import schema_text
from tunewright.serve.wire import GREEDY_BELOW, ApiError, ChatRequest

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": (),
    "store": (False,),
    "verbosity": (),
    "web_search_options": (),
}
"""OpenAI's fields that are not supported, with the values that ask for nothing."""
_WITHOUT_EFFECT = ("metadata", "prompt_cache_key", "safety_identifier")
"""OpenAI's fields that are notes for its operator and never change an answer."""
_KINDS = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def check(given: dict[str, Any]) -> ChatRequest:
    """Reads a body that is JSON; raises ApiError (400) with OpenAI's `param` and `code`."""
    wanted = {key: value for key, value in given.items() if value is not None}
    for key in [key for key in wanted if key not in ChatRequest.model_fields]:
        _check_unsupported(key, wanted.pop(key))
    wanted["messages"] = _without_nulls(wanted.get("messages"))
    try:
        request = ChatRequest.model_validate({key: value for key, value in wanted.items() if value is not None})
    except ValidationError as error:
        _refuse(error)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise ApiError(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_value",
        )
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
            code="invalid_value",
        )
    _check_tools(request)
    _check_choices(request)
    _check_format(request)
    _check_turns(request)
    return request


def _check_tools(request: ChatRequest) -> None:
    """What depends on several fields; a choice that only a grammar could enforce is refused by its type already."""
    if request.tool_choice == "auto" and not request.tools:
        raise _wrong("tool_choice", "it is only allowed when 'tools' are given")
    if request.offered and request.parallel_tool_calls is False:
        raise _wrong("parallel_tool_calls", "one call at a time is not enforced here; leave it out or send true")
    names = [tool.function.name for tool in request.tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise _wrong(f"tools[{place}].function.name", f"'{name}' is there twice")


def _check_choices(request: ChatRequest) -> None:
    """Several choices must differ; the most probable tokens stand beside the chosen one's."""
    if request.n > 1 and request.temperature < GREEDY_BELOW:
        raise _wrong("n", "with temperature 0 all choices would be the same; send 1, or a higher temperature")
    if request.top_logprobs is not None and not request.logprobs:
        raise _wrong("top_logprobs", "it is only allowed when 'logprobs' is true")


def _check_format(request: ChatRequest) -> None:
    """JSON is promised whole: nothing else may be asked that ends it early or asks for another form."""
    if schema_text(request.response_format) is None:
        return
    if request.offered:
        raise _wrong("response_format", "a JSON answer and a tool's call exclude one another; leave 'tools' out")
    if request.stop:
        raise _wrong("stop", "a stop string would cut the JSON in the middle; leave it or 'response_format' out")


def _check_turns(request: ChatRequest) -> None:
    """Calls are the assistant's, and a tool's turn answers a call that came before."""
    asked: set[str] = set()
    for place, message in enumerate(request.messages):
        if message.tool_calls and message.role != "assistant":
            raise _wrong(f"messages[{place}].tool_calls", "only an assistant's turn has calls")
        if message.tool_call_id is not None and message.role != "tool":
            raise _wrong(f"messages[{place}].tool_call_id", "only a tool's turn answers a call")
        if message.role == "tool" and message.tool_call_id is None:
            param = f"messages[{place}].tool_call_id"
            message_text = f"Missing required parameter: '{param}'."
            raise ApiError(400, message_text, param=param, code="missing_required_parameter")
        if message.role == "tool" and message.tool_call_id not in asked:
            raise _wrong(f"messages[{place}].tool_call_id", "no assistant turn before it has a call of this id")
        asked |= {call.id for call in message.tool_calls}


def _wrong(param: str, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises ApiError (400)."""
    problem = "We could not parse the JSON body of your request"
    try:
        given = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(given, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ApiError(400, f"{problem}: it is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except UnicodeEncodeError:
        raise ApiError(400, f"{problem}: a text holds a lone surrogate.", code="invalid_json") from None
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise ApiError(400, f"{problem}: {place}.", code="invalid_json") from None
    except RecursionError:
        raise ApiError(400, f"{problem}: it is nested too deeply.", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"{problem}: {error}.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise ApiError(400, "The body of a chat request must be a JSON object.", code="invalid_type")
    return given


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _without_nulls(messages: Any) -> Any:
    """Clients send earlier answers back with null fields (`refusal`, `tool_calls`): these say nothing."""
    if not isinstance(messages, list):
        return messages
    return [_without_null(item) if isinstance(item, dict) else item for item in messages]


def _without_null(message: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if value is not None or key in ("role", "content")}
    if kept.get("tool_calls") and kept.get("content") is None:
        return {**kept, "content": ""}
    return kept


def _check_unsupported(key: str, value: Any) -> None:
    if key in _WITHOUT_EFFECT or any(type(value) is type(known) and value == known for known in _NEUTRAL.get(key, ())):
        return
    if key in _NEUTRAL:
        neutral = " or ".join(json.dumps(known) for known in _NEUTRAL[key][:1])
        allowed = f"; leave it out or send {neutral}" if neutral else "; leave it out"
        raise ApiError(
            400, f"Unsupported parameter: '{key}' with this value{allowed}.", param=key, code="unsupported_parameter"
        )
    raise ApiError(400, f"Unknown parameter: '{key[:100]}'.", param=key[:100], code="unknown_parameter")


def _refuse(error: ValidationError) -> NoReturn:
    faults = [_fault(dict(item)) for item in error.errors(include_url=False)]
    message, param, code = faults[0]
    raise ApiError(400, " ".join([message, *[fault[0] for fault in faults[1:4]]]), param=param, code=code)


def _fault(item: dict[str, Any]) -> tuple[str, str, str]:
    """(message, param, code). The value itself is never repeated: it may be a message's content."""
    param, kind, context = _param(item["loc"]), item["type"], item.get("ctx", {})
    if kind.startswith("union_tag") and param == "response_format":
        param = "response_format.type"
        if kind == "union_tag_invalid":
            return f"Invalid value for '{param}': supported is {context['expected_tags']}.", param, "invalid_value"
    if kind in ("missing", "union_tag_not_found"):
        return f"Missing required parameter: '{param}'.", param, "missing_required_parameter"
    if kind == "extra_forbidden":
        return f"Unknown or unsupported parameter: '{param}'.", param, "unknown_parameter"
    if kind == "literal_error":
        return f"Invalid value for '{param}': supported is {context['expected']}.", param, "invalid_value"
    if kind == "too_short" and param == "messages":
        return "Invalid 'messages': empty array. Expected at least one message.", param, "empty_array"
    if kind in _KINDS:
        expected = "a string or an array of strings" if param == "stop" else _KINDS[kind]
        expected = "a string or an array of text parts" if param.endswith(".content") else expected
        return f"Invalid type for '{param}': expected {expected}.", param, "invalid_type"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"Invalid value for '{param}': {message[0].lower()}{message[1:]}.", param, "invalid_value"


def _param(location: tuple[str | int, ...]) -> str:
    """("messages", 0, "content") -> "messages[0].content"; which kind of format it was meant to be is left out."""
    text = ""
    if location[0] == "response_format":
        location = location[:1] + location[2:]
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
