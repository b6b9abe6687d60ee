"""An answer that another server speaks, put together as ours are: counted, cut at stop strings, shown when it is sure.

Token ids are not used: llama.cpp leaves out of its stream the ids of tokens that are part of a character.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from tunewright.models.request import Finish, Request, safe_length
from tunewright.serve.faults import EngineFault
from tunewright.serve.logprobs import TokenLogprob
from tunewright.serve.tools import ToolCall

UNTOLD = -1
"""Stands in `output_ids` (and in `prompt_ids` of a remote model) for a token whose id is not told: it still counts."""


@dataclass(frozen=True)
class Piece:
    """What one event brings. text: what is new; tokens: generated so far, end tokens not counted; prompt_tokens: where
    the other server counts them; calls: whole ones, with the end only; logprobs: of the new tokens, where asked for."""

    text: str = ""
    tokens: int = 0
    finish: Finish | None = None
    prompt_tokens: int = 0
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


def take(request: Request, piece: Piece) -> int:
    """Adds `piece` to the answer; how many new tokens it brought. `finish` is set when a stop string is there or
    max_new_tokens are, whatever the other server does."""
    new = max(0, piece.tokens - len(request.output_ids))
    request.seconds = time.monotonic() - request.created
    if new or piece.text:
        request.first_token_s = request.first_token_s or request.seconds
    request.output_ids += [UNTOLD] * new
    if piece.prompt_tokens and not request.prompt_ids:
        request.prompt_ids = [UNTOLD] * piece.prompt_tokens
    finish = piece.finish
    if finish is None and len(request.output_ids) >= request.sampling.max_new_tokens:
        finish = "length"
    _say(request, piece.text, finish)
    return new


def check_form(request: Request) -> None:
    """Raises EngineFault for an answer that was to be JSON, has ended by itself and is none: servers exist that take
    a schema and do without it."""
    if request.sampling.json_schema is not None and request.finish == "stop":
        try:
            json.loads(request.text)
        except ValueError:
            raise EngineFault("The upstream server did not keep to the schema.") from None


def _say(request: Request, text: str, finish: Finish | None) -> None:
    stops = request.sampling.stop
    start = max(0, len(request.text) - max(map(len, stops), default=0))
    request.text += text
    cut = min((place for stop in stops if (place := request.text.find(stop, start)) >= 0), default=-1)
    if cut >= 0:
        request.text, finish = request.text[:cut], "stop"
    request.finish = finish
    if request.on_text:
        safe = len(request.text) if finish else safe_length(request.text, stops)
        if safe > request.sent:
            request.on_text(request.text[request.sent : safe])
            request.sent = safe
