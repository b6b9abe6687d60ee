"""The route /v1/chat/completions: reads, asks the desk, answers whole or as a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunewright.serve import stream
from tunewright.serve.answers import TimeLimit
from tunewright.serve.body import read_body, unless_gone
from tunewright.serve.choices import Choices, opened
from tunewright.serve.config import ServeConfig
from tunewright.serve.desk import Asking
from tunewright.serve.faults import EngineFault
from tunewright.serve.jobs.door import JobsDoor
from tunewright.serve.parse import check, json_object
from tunewright.serve.question import Question, unavailable
from tunewright.serve.questions import QuestionLog
from tunewright.serve.redact import masked
from tunewright.serve.reply import completion
from tunewright.serve.switch import Switch
from tunewright.serve.wire import ApiError, ChatRequest

TIMEOUT_HEADER = "X-Timeout-S"
LEAST_TIMEOUT_S = 1.0
CANARY_HEADER = "X-Canary-Key"


@dataclass
class ChatRoute:
    """Answers chat requests for the models of `switch`. `draining`: refuse new ones."""

    switch: Switch
    config: ServeConfig
    jobs: JobsDoor | None = None
    questions: QuestionLog | None = None
    draining: bool = False

    async def answer(self, request: Request) -> Response:
        """The whole way of one request; raises ApiError or ClientGone."""
        wanted = await self.read(request)
        limit = self._limit(request)
        question = Question.of(wanted, self.config.max_new_tokens)
        served = self.switch.find(wanted.model, _canary_key(request, wanted))
        if self.jobs is not None:
            job_limit = await self.jobs.limit_of(request)
            if job_limit is not None:
                limit = replace(limit, seconds=job_limit)
            elif (accepted := await self.jobs.instead(request, wanted, question, served.desk.engine)) is not None:
                return accepted
        if self.questions is not None:
            self.questions.write(wanted)
        self._check_places(wanted)
        choices, found = await opened(served.desk, question, self._asking(request, wanted, limit))
        request.state.facts.update(self.switch.facts(served))
        if served.desk.cache is not None:
            request.state.facts["cache"] = found
        return await self._respond(request, wanted, choices, {"X-Cache": found} if served.desk.cache else {})

    async def read(self, request: Request) -> ChatRequest:
        """The checked request with personal data masked where the project asks for it; raises ApiError."""
        return self._checked(await self._object(request))

    async def read_job(self, request: Request) -> tuple[ChatRequest, str]:
        """The same for a job: a chat request that may hold `webhook`, which is empty where it does not."""
        given = await self._object(request)
        webhook = given.pop("webhook", None)
        if not isinstance(webhook, str | None):
            raise ApiError(400, "Invalid type for 'webhook': expected a string.", param="webhook", code="invalid_type")
        return self._checked(given), webhook or ""

    async def _object(self, request: Request) -> dict[str, Any]:
        self.refuse_while_draining()
        given = json_object(await read_body(request, self.config.max_body_bytes))
        self.refuse_while_draining()  # a body may take its time
        return given

    def _checked(self, given: dict[str, Any]) -> ChatRequest:
        wanted = check(given)
        self.switch.check(wanted.model)
        return masked(wanted, self.config.redact)

    def refuse_while_draining(self) -> None:
        """Raises ApiError (503) when the server is about to end."""
        if self.draining:
            raise unavailable("The server is shutting down.")

    def _limit(self, request: Request) -> TimeLimit:
        most = self.config.request_timeout_s
        given = request.headers.get(TIMEOUT_HEADER)
        try:
            seconds = most if given is None else float(given)
        except ValueError:
            seconds = math.nan
        if given is not None and not LEAST_TIMEOUT_S <= seconds <= most:
            allowed = f"seconds, at least {LEAST_TIMEOUT_S:g} and at most {most:g}"
            message = f"Invalid value for '{TIMEOUT_HEADER}': expected {allowed}."
            raise ApiError(400, message, param=TIMEOUT_HEADER, code="invalid_value")
        return TimeLimit(seconds, request.state.started)

    def _asking(self, request: Request, wanted: ChatRequest, limit: TimeLimit) -> Asking:
        said = {word.strip().lower() for word in request.headers.get("Cache-Control", "").split(",")}
        return Asking(
            limit,
            stream=wanted.stream,
            tenant=request.state.tenant or "",
            may_read="no-cache" not in said,
            may_keep="no-store" not in said,
        )

    def _check_places(self, wanted: ChatRequest) -> None:
        """Each choice takes a place. Raises ApiError for more than there ever are."""
        places = self.config.batch_size + self.config.queue
        if wanted.n > places:
            message = f"Invalid value for 'n': this server answers at most {places} choices at a time."
            raise ApiError(400, message, param="n", code="invalid_value")

    async def _respond(
        self, request: Request, wanted: ChatRequest, choices: Choices, headers: dict[str, str]
    ) -> Response:
        """Waits for the whole answer, or for the first piece of a streamed one: faults until then get their status."""
        try:
            if not wanted.stream:
                replies = await unless_gone(request, choices.whole())
                self._leave(request, choices)
                return JSONResponse(completion(replies, wanted.model).model_dump(), headers=headers)
            first = await unless_gone(request, choices.next())
            usage = wanted.stream_options is not None and wanted.stream_options.include_usage
            events = stream.events(choices, first, model=wanted.model, include_usage=usage)
            return stream.EventStream(events, lambda: self._leave(request, choices), headers=headers)
        except EngineFault as fault:
            self._leave(request, choices)
            raise stream.as_error(fault) from None
        except BaseException:
            self._leave(request, choices)
            raise

    def _leave(self, request: Request, choices: Choices) -> None:
        request.state.facts["tokens"] = choices.tokens
        choices.leave()


def _canary_key(request: Request, wanted: ChatRequest) -> str:
    """What decides whether a canary answers: the same customer, or else the same conversation's beginning, always gets
    the same model."""
    given = request.headers.get(CANARY_HEADER) or wanted.user
    if given:
        return given
    return "\n".join(message.model_dump_json() for message in wanted.messages[:2])
