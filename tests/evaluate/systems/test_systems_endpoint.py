"""Endpoints: order, retries, keys that never show, clear errors, the cache; our own server answers as its model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from systems_kit import ASKING, ChatService, Counted, local, prompts, row, varied

from tunewright.core.chat import Message
from tunewright.core.errors import ConfigError, ResourceError, TunewrightError
from tunewright.evaluate.systems import http_client
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache
from tunewright.evaluate.systems.endpoint import Endpoint, Usage
from tunewright.evaluate.systems.options import Address
from tunewright.evaluate.systems.protocol import Asking, ChatModel
from tunewright.models.tokens import ChatTokenizer

KEY = "sk-0123456789"
ROWS = [row(index) for index in range(12)]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatService]:
    monkeypatch.setenv("DEMO_KEY", KEY)
    monkeypatch.setattr(http_client, "FIRST_WAIT_S", 0.01)
    running = ChatService()
    yield running
    running.close()


def endpoint(service: ChatService, cache: AnswerCache = NO_CACHE, **changes: Any) -> Endpoint:
    settings = {"base_url": service.url, "model": "big", "api_key_env": "DEMO_KEY", **changes}
    return Endpoint(Address.model_validate(settings), name="big", where="evaluate.rivals.0", cache=cache)


def test_answers_stand_in_the_order_of_the_questions(service: ChatService) -> None:
    service.silent_s = 0.02
    system = endpoint(service, concurrency=5)
    asked = prompts(None, ROWS)
    samples = system.answer(asked, ASKING)
    assert [sample.prediction for sample in samples] == [(one.prompt[-1].content or "").upper() for one in ROWS]
    assert [sample.id for sample in samples] == [one.id for one in ROWS]
    assert 1 < service.most_at_once <= 5
    key, body = service.seen[0]
    assert key == f"Bearer {KEY}"
    assert body | {"messages": 0} == {"model": "big", "messages": 0, "max_tokens": 12, "temperature": 0}
    assert system.usage == Usage(12, 12, 120, 24)
    assert isinstance(system, ChatModel) and not system.gives_logits and system.max_length is None
    assert all(sample.seconds >= 0.02 for sample in samples)


def test_labels_tools_and_other_names_of_the_limit_are_sent(service: ChatService) -> None:
    service.has_usage = False
    system = endpoint(service, limit_key="max_completion_tokens", sends_temperature=False)
    tool = {"type": "function", "function": {"name": "balance", "parameters": {}}}
    asked = [row(0, task="intent"), row(1).model_copy(update={"metadata": {"task": "answer", "tools": [tool]}})]
    system.answer(prompts(None, asked), ASKING)
    bodies = sorted((body for _, body in service.seen), key=lambda body: "tools" in body)
    assert bodies[0]["messages"][0] == {
        "role": "system",
        "content": "Answer with exactly one of these labels and nothing else: card_lost, fee.",
    }
    assert bodies[1]["tools"] == [tool] and "tools" not in bodies[0]
    assert bodies[0]["max_completion_tokens"] == 12 and not {"max_tokens", "temperature"} & set(bodies[0])
    assert system.usage == Usage(2, 0, 0, 0), "an endpoint that counts nothing costs nothing that is known"


def test_passing_faults_are_tried_again(service: ChatService) -> None:
    service.statuses = [503, 429, 500]
    assert endpoint(service, retries=3).answer(prompts(None, ROWS[:1]), ASKING)[0].prediction == "MY CARD IS GONE 0"
    assert len(service.seen) == 4


def test_waits_grow_and_never_fall_below_what_was_asked_for() -> None:
    waits = [http_client._pause(attempt, 0.0) for attempt in range(1, 12)]
    assert all(0.5 * 2**n <= wait <= max(0.75 * 2**n, 30) for n, wait in enumerate(waits[:6]))
    assert waits[-1] == http_client.LONGEST_WAIT_S == http_client._pause(1, 900.0)
    assert http_client._pause(1, 7.0) == 7.0


@pytest.mark.parametrize(
    ("status", "kind", "problem", "fix"),
    [
        (401, ConfigError, r"answers 401: no, Bearer \*\*\* may not", "the variable that api_key_env names"),
        (404, ConfigError, "answers 404", "check base_url and model"),
        (503, ResourceError, r"answers 503: .* \(3 tries\)", "answers so far are kept"),
    ],
)
def test_refusals_are_one_sentence_without_the_key(
    service: ChatService, status: int, kind: type[TunewrightError], problem: str, fix: str
) -> None:
    service.statuses = [status] * 50
    with pytest.raises(kind, match=problem) as caught:
        endpoint(service, retries=2).answer(prompts(None, ROWS), ASKING)
    assert fix in caught.value.fix and caught.value.where == "evaluate.rivals.0"
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("raw", [b"<html>gateway</html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": 3}]}'])
def test_what_is_no_chat_completion_is_said(service: ChatService, raw: bytes) -> None:
    service.raw = raw
    with pytest.raises(ResourceError, match="answers something that is no chat completion"):
        endpoint(service).answer(prompts(None, ROWS[:1]), ASKING)


def test_silence_ends_after_the_timeout(service: ChatService) -> None:
    service.silent_s = 5.0
    start = time.monotonic()
    with pytest.raises(ResourceError, match=r"cannot be asked: timed out \(2 tries\)"):
        endpoint(service, timeout_s=0.1, retries=1).answer(prompts(None, ROWS[:1]), ASKING)
    assert time.monotonic() - start < 3


def test_nobody_there() -> None:
    address = Address(base_url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(ResourceError, match=r"http://127\.0\.0\.1:9/v1 cannot be asked") as caught:
        Endpoint(address, name="m", where="w").answer(prompts(None, ROWS[:1]), ASKING)
    assert "start it" in caught.value.fix


def test_a_missing_or_odd_key_is_refused_before_anything_is_asked(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMO_KEY")
    with pytest.raises(ConfigError, match="the environment variable DEMO_KEY is not set"):
        endpoint(service)
    monkeypatch.setenv("DEMO_KEY", "a\nHost: evil")
    with pytest.raises(ConfigError, match="characters that no key has") as caught:
        endpoint(service)
    assert "evil" not in str(caught.value) and not service.seen


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"api_key_env": "sk-abcDEF123"}, "NAME of an environment variable"),
        ({"api_key_env": "abcdefghijkl"}, "NAME of an environment variable"),
        ({"base_url": "file:///etc/passwd"}, "write http://HOST:PORT/v1"),
        ({"base_url": "https://user:secret@host/v1"}, "a key goes into the environment"),
        ({"api_key": "sk-1"}, "Extra inputs are not permitted"),
    ],
)
def test_options_take_names_of_keys_only(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Address.model_validate({"base_url": "http://127.0.0.1:1/v1", "model": "m", **changes})


def test_a_second_run_asks_nothing_and_an_interrupted_one_only_the_rest(service: ChatService, tmp_path: Path) -> None:
    cache, asked = AnswerCache(tmp_path), prompts(None, ROWS)
    service.statuses = [200] * 7 + [400] * 50
    with pytest.raises(ConfigError, match="answers 400"):
        endpoint(service, cache, concurrency=1).answer(asked, ASKING)
    service.statuses, service.seen = [], []
    system = endpoint(service, cache)
    first = system.answer(asked, ASKING)
    assert len(service.seen) == 5, "seven answers were kept"
    assert system.usage == Usage(12, 12, 120, 24), "what a thousand answers cost does not depend on the cache"
    again = endpoint(service, cache)
    second = again.answer(asked, ASKING)
    assert len(service.seen) == 5 and again.usage == system.usage
    assert [sample.prediction for sample in second] == [sample.prediction for sample in first]
    assert {sample.seconds for sample in second} == {0.0}
    assert again.time_answer(asked[0], ASKING) > 0 and len(service.seen) == 6, "times are of now"
    endpoint(service, cache, model="bigger").answer(asked, ASKING)
    assert len(service.seen) == 18, "another model is another system"
    assert KEY not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_our_own_server_answers_as_its_model(tiny: Path) -> None:
    """The tiny model served over HTTP against the same model in memory, greedy, row by row."""
    from tunewright.serve.app import Parts
    from tunewright.serve.config import ServeConfig
    from tunewright.serve.engine import TransformersEngine
    from tunewright.serve.prepared import Loaded
    from tunewright.serve.server import Server, in_thread
    from tunewright.serve.wire import Model

    own = local(tiny, Counted(tiny))
    engine = TransformersEngine(lambda: Loaded(varied(tiny), ChatTokenizer.load(tiny), 512), batch_size=4, queue=64)
    server = Server(engine, ServeConfig(port=0), Parts(Model(id="desk", created=1)), log=lambda _: None)
    asked = prompts(own, ROWS)
    how = Asking(max_new_tokens=10)
    with in_thread(server) as url:
        system = Endpoint(Address(base_url=f"{url}/v1", model="desk"), name="server", where="here")
        served = system.answer(asked, how)
    expected = [sample.prediction for sample in own.answer(asked, how)]
    assert [sample.prediction for sample in served] == expected and len(set(expected)) > 3
    assert system.usage.prompt_tokens == sum(len(prompt.ids) for prompt in asked), "it renders what we render"


def test_messages_go_as_they_are(service: ChatService) -> None:
    """Roles and turns before the question are the row's."""
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Fee?"), ("assistant", "None.")]
    messages = tuple(Message.model_validate({"role": role, "content": text}) for role, text in turns)
    asked = row(0).model_copy(update={"messages": messages})
    endpoint(service).answer(prompts(None, [asked]), ASKING)
    sent = json.dumps(service.seen[0][1]["messages"])
    assert sent == json.dumps([{"role": role, "content": text} for role, text in turns[:-1]])
