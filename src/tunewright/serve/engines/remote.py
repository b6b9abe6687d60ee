"""The engine `remote`: any server with OpenAI's chat completions. The conversation is passed on; template, context and
tool calls are the other server's. Our validation stands in front, so nothing that is not understood is passed on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import ValidationError

from tunewright.core.chat import Message
from tunewright.core.errors import ResourceError
from tunewright.models.request import Request, Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Size
from tunewright.serve.cache.key import Identity
from tunewright.serve.choose import Choice
from tunewright.serve.engines import client, prompts
from tunewright.serve.engines.client import Address, UpstreamGone
from tunewright.serve.engines.config import RemoteOptions
from tunewright.serve.engines.http_engine import Asked, Place, UpstreamEngine
from tunewright.serve.engines.speech import Piece
from tunewright.serve.faults import EngineFault, Refused
from tunewright.serve.formats import ANY_OBJECT
from tunewright.serve.logprobs import TokenLogprob
from tunewright.serve.prepared import Loaded
from tunewright.serve.tools import FunctionCall, ToolCall, new_call_id
from tunewright.serve.wire import ApiError, Model, now

_BYTES_A_TOKEN = 3
"""An estimate: about one Han character, or four English letters and a blank in two tokens' worth of bytes."""
_MORE = 16
"""Events with text over max_tokens, after which the other server is stopped: each brings a token or more."""


class Remote:
    """Makes the one engine of a server in front of another one; it needs no artifact."""

    wants = "nothing"

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options

    def make(self, choice: Choice | None, place: Place) -> UpstreamEngine:
        """An engine, not started. choice: none, the other server has its own model."""
        assert choice is None, "a remote server serves no artifact of ours"
        return UpstreamEngine(RemoteUpstream(self._options), place)

    @property
    def sentence(self) -> str:
        """What is served."""
        return f"serving {self._options.model or 'the first model'} of {self._options.url}, as serve.engine says"

    def model(self, name: str) -> Model:
        """What /v1/models tells."""
        return Model(id=name, created=now(), base=self._options.model or None)

    def identity(self) -> Identity:
        """What answers, for the keys of the cache: what the other server does behind its name is not seen."""
        return Identity(model=f"remote/{self._options.url}/{self._options.model}")


class RemoteUpstream:
    """A server that somebody else runs."""

    name = "remote"

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        key = options.api_key.get_secret_value() if options.api_key else ""
        self.address = Address(options.url, key, options.connect_timeout_s)
        self.model = options.model
        self.loaded: Loaded | None = None

    def start(self, stopping: threading.Event) -> None:
        """Asks for its models. Raises ResourceError when it cannot be reached, wants another key, or has no such
        model."""
        del stopping  # one question
        names = asyncio.run(self._models())
        self.model = self.model or next(iter(names), "")
        if self.model not in names:
            known = ", ".join(names[:5]) or "none"
            raise ResourceError(
                f"the server at {self._options.url} has no model '{self.model}'; it lists {known}",
                where="serve.engine.model",
                fix="name one that it lists",
            )

    async def _models(self) -> list[str]:
        where = "serve.engine.url"
        try:
            async with (
                asyncio.timeout(self._options.connect_timeout_s + 20),
                client.request(self.address, "GET", "/models") as response,
            ):
                told = await response.json()
        except (UpstreamGone, TimeoutError) as error:
            fix = "start it, or correct the address"
            raise ResourceError(f"no answer from {self._options.url}: {error}", where=where, fix=fix) from None
        if response.status in (401, 403):
            problem = f"{self._options.url} refused the key ({response.status})"
            raise ResourceError(problem, where="serve.engine.api_key", fix="set ${NAME} of a key that it takes")
        rows = told.get("data") if response.status == 200 and isinstance(told, dict) else None
        if not isinstance(rows, list):
            problem = f"{self._options.url}/models answered {response.status}, not a list of models"
            raise ResourceError(problem, where=where, fix="write the address up to and with /v1")
        return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]

    def ended(self) -> str | None:
        """It is not ours to watch: a request that fails says so."""
        return None

    def stop(self) -> None:
        """It is not ours to end."""

    def ask(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Asked:
        """The request in OpenAI's words (see `Upstream`). Raises ApiError for what the other server may ignore."""
        self._refuse("logprobs", sampling.logprobs is not None)
        self._refuse("response_format", sampling.json_schema is not None)
        self._refuse("tools", bool(tools))
        self._refuse("seed", sampling.seed is not None and sampling.temperature > 0)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [spoken(message) for message in messages],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None and "seed" in self._options.honours:
            body["seed"] = sampling.seed
        if tools:
            body["tools"] = list(tools)
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        if sampling.json_schema is not None:
            body["response_format"] = response_format(sampling.json_schema)
        return Asked(Request([], sampling), body, told=True)

    def _refuse(self, param: str, is_asked: bool) -> None:
        if is_asked and param not in self._options.honours:
            message = (
                f"'{param}' is not known to be obeyed by the server behind this one. Leave it out; who runs this one "
                f"can allow it with serve.engine.honours: [{param}]."
            )
            raise ApiError(400, message, param=param, code="unsupported_parameter")

    def size(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Size:
        """An estimate by bytes: the tokenizer is the other server's."""
        count = sum(len((message.content or "").encode()) for message in messages)
        return Size(count // _BYTES_A_TOKEN + 1, sampling.max_new_tokens)

    async def pieces(self, asked: Asked) -> AsyncIterator[Piece]:
        """The stream (see `Upstream`). The counts come with its end."""
        heard = _Heard(asked.request.sampling)
        async with client.request(self.address, "POST", "/chat/completions", asked.body) as response:
            if response.status != 200:
                raise _refusal(response.status, response.headers, await response.json())
            async for event in response.events():
                if not isinstance(event, dict) or "error" in event:
                    raise EngineFault("The upstream server failed on this request.")
                if piece := heard.piece(event):
                    yield piece
            yield heard.end()


class _Heard:
    """What a stream of chat chunks has brought so far."""

    def __init__(self, sampling: Sampling) -> None:
        self._most, self._texts, self._entries = sampling.max_new_tokens, 0, 0
        self._wants_logprobs = sampling.logprobs is not None
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._calls: dict[int, dict[str, str]] = {}

    def piece(self, event: dict[str, Any]) -> Piece | None:
        """The text of one chunk; None where it has none."""
        self._usage = event.get("usage") or self._usage
        text = ""
        entries: list[TokenLogprob] = []
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            self._finish = choice.get("finish_reason") or self._finish
            text += delta.get("content") or ""
            if self._wants_logprobs:
                entries += _entries(choice.get("logprobs"))
            for call in delta.get("tool_calls") or ():
                self._add(call)
        self._entries += len(entries)
        if not text and not entries:
            return None
        self._texts += bool(text)
        if self._texts > self._most + _MORE:
            raise EngineFault("The upstream server does not keep to max_tokens.")
        return Piece(text, logprobs=tuple(entries))

    def _add(self, call: dict[str, Any]) -> None:
        known = self._calls.setdefault(int(call.get("index", 0)), {"id": "", "name": "", "arguments": ""})
        function = call.get("function") or {}
        known["id"] = known["id"] or str(call.get("id") or "")
        known["name"] += function.get("name") or ""
        known["arguments"] += function.get("arguments") or ""

    def end(self) -> Piece:
        """The last piece: counts, calls and why it ended. Raises EngineFault when they did not come."""
        if self._finish is None:
            raise UpstreamGone("The upstream server broke off its answer.")
        if self._usage is None:
            raise EngineFault("The upstream server sent no token counts (stream_options.include_usage).")
        if self._wants_logprobs and self._texts and not self._entries:
            raise EngineFault("The upstream server sent no log probabilities, though they were asked for.")
        calls = tuple(
            ToolCall(
                id=call["id"] or new_call_id(), function=FunctionCall(name=call["name"], arguments=call["arguments"])
            )
            for _, call in sorted(self._calls.items())
        )
        return Piece(
            "",
            int(self._usage["completion_tokens"]),
            "length" if self._finish == "length" else "stop",
            int(self._usage["prompt_tokens"]),
            calls,
        )


def response_format(schema: str) -> dict[str, Any]:
    """The form of an answer as OpenAI's API takes it."""
    return {"type": "json_object"} if schema == ANY_OBJECT else prompts.named_schema(schema)


def _entries(told: Any) -> list[TokenLogprob]:
    """Entries of one chunk. Raises EngineFault for what is none: half of them would be worse than nothing."""
    rows = (told.get("content") if isinstance(told, dict) else None) or ()
    try:
        found = [TokenLogprob.model_validate(row) for row in rows]
    except (ValidationError, TypeError):
        raise EngineFault("The upstream server sent log probabilities of another form.") from None
    return [
        one if one.bytes is not None else one.model_copy(update={"bytes": list(one.token.encode())}) for one in found
    ]


def spoken(message: Message) -> dict[str, Any]:
    """A turn as OpenAI's API takes it."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _refusal(status: int, headers: dict[str, str], told: Any) -> EngineFault:
    """What a client is told of an answer other than 200: its own faults in the other server's words, ours not."""
    error = told.get("error") if isinstance(told, dict) else None
    said = error if isinstance(error, dict) else {"message": told.get("message", "") if isinstance(told, dict) else ""}
    message = str(said.get("message") or f"The upstream server refused the request ({status}).")[:1000]
    if status in (400, 413, 422):
        code, param = said.get("code"), said.get("param")
        return Refused(
            400, message, code=code if isinstance(code, str) else None, param=param if isinstance(param, str) else None
        )
    if status == 429:
        after = headers.get("retry-after", "")
        return Refused(429, "The upstream server is busy.", code="rate_limit_exceeded", retry_after_s=_seconds(after))
    if status == 503:
        return Refused(503, "The upstream server is not ready.", code="service_unavailable", retry_after_s=1)
    return EngineFault(f"The upstream server refused the request ({status}).")


def _seconds(text: str) -> int:
    return min(3600, int(text)) if text.isdigit() else 1
