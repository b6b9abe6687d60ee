"""Masking personal data in requests, as the rule `redact` of the data stage masks rows: the model sees what it was
trained on."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tunewright.core.text.nested import rewrite
from tunewright.core.text.pii import Kind, find_pii, mask
from tunewright.serve.tools import EarlierCall
from tunewright.serve.wire import ChatMessage, ChatRequest, TextPart


def masked_text(text: str, kinds: Collection[Kind]) -> str:
    """`text` with each place of these kinds replaced by its plain label, such as `<PHONE>`."""
    return mask(text, find_pii(text, kinds))


def masked(request: ChatRequest, kinds: Collection[Kind]) -> ChatRequest:
    """The request with every turn's text and every argument of earlier calls masked; the same one if nothing is found.
    A text's parts are joined first: a number may stand in two of them."""
    if not kinds:
        return request
    turns = [_turn(turn, kinds) for turn in request.messages]
    return request if turns == request.messages else request.model_copy(update={"messages": turns})


def _turn(turn: ChatMessage, kinds: Collection[Kind]) -> ChatMessage:
    text = "".join(part.text for part in turn.content)
    changed = masked_text(text, kinds)
    update: dict[str, Any] = {}
    if changed != text:
        update["content"] = [TextPart(type="text", text=changed)]
    if turn.tool_calls:
        update["tool_calls"] = [_call(call, kinds) for call in turn.tool_calls]
    return turn.model_copy(update=update) if update else turn


def _call(call: EarlierCall, kinds: Collection[Kind]) -> EarlierCall:
    given = json.loads(call.function.arguments)
    changed = rewrite(given, lambda text: masked_text(text, kinds))
    if changed == given:
        return call
    function = call.function.model_copy(update={"arguments": json.dumps(changed, ensure_ascii=False)})
    return call.model_copy(update={"function": function})
