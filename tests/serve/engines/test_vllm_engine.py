"""The engine `vllm` against a stand-in that speaks vLLM's documented routes: vLLM itself needs a GPU."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine_kit
import httpx
import pytest
import serving_kit as kit

from tunewright.core.errors import ArtifactError, MissingExtraError, ResourceError
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.choose import Files
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines import vllm
from tunewright.serve.engines.config import VllmOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.fleet import Fleet
from tunewright.serve.server import Server, in_thread

STAND_IN = Path(__file__).with_name("vllm_stand_in.py")
FAILS, IS_REFUSED, KILLS, NEVER_ENDS = "{", "|", "}", "~"
"""What the stand-in does for a question with this letter."""


class Room:
    """A vLLM of the stand-in, what it was asked, and models on it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.python = folder / "log", folder / "python"
        self.said: list[str] = []
        self.python.write_text(f'#!/bin/sh\nSTAND_IN_LOG={self.log} exec {sys.executable} {STAND_IN} "$@"\n')
        self.python.chmod(0o755)
        self.base = engine_kit.write_tokenizer(folder / "base")
        self.maker = vllm.Vllm(VllmOptions(python=str(self.python), start_timeout_s=30))

    def adapter(self, name: str, **change: Any) -> Path:
        folder = self.base.parent / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 12} | change))
        return folder

    def engine(self, adapter: Path | None = None, base: Path | None = None) -> UpstreamEngine:
        tokenizer = ChatTokenizer.load(self.base)
        choice: Any = SimpleNamespace(
            artifact=SimpleNamespace(manifest_sha256=adapter.name if adapter else "whole"),
            variant="tuned",
            files=lambda: Files(base or self.base, tokenizer, adapter=adapter),
            refuse_gguf=lambda: None,
        )
        return self.maker.make(choice, Place(4, 4, self.said.append))

    def asked(self, what: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [row for row in rows if row["what"] == what]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@contextlib.contextmanager
def serving(engine: Any) -> Iterator[str]:
    config = ServeConfig(port=0, shutdown_timeout_s=5)
    with in_thread(Server(engine, config, kit.named(), log=lambda _: None)) as url:
        yield url


def post(url: str, content: str = "Hi", **change: Any) -> httpx.Response:
    messages = [{"role": "user", "content": content}]
    body = {"model": kit.MODEL, "messages": messages, "temperature": 0, "max_tokens": 50} | change
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def test_a_model_is_asked_with_our_ids_and_answers_with_its_counts(room: Room) -> None:
    engine = room.engine()
    with serving(engine) as url:
        answer = post(url, seed=7, temperature=0.5, top_p=0.9).json()
        prompt = engine.loaded.tokenizer.prompt_ids(_turns("Hi"))  # type: ignore[union-attr]
        text = f"base:{len(prompt)}"
        assert answer["choices"][0]["message"]["content"] == text
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == len(text), "the end token is not counted"
        assert answer["usage"]["prompt_tokens"] == len(prompt)
        short = post(url, max_tokens=3).json()
        assert short["choices"][0]["message"]["content"] == text[:3]
        assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 3
        stopped = post(url, stop=["e:"]).json()
        assert (stopped["choices"][0]["message"]["content"], stopped["choices"][0]["finish_reason"]) == ("bas", "stop")
        long = post(url, "x" * 300)
        assert long.status_code == 400 and "maximum context length is 200" in long.json()["error"]["message"]
    body = room.asked("/v1/completions")[0]["body"]
    assert body["prompt"] == prompt and body["prompt"].count(257) == 1
    assert body["seed"] == 7 and body["temperature"] == 0.5 and body["top_p"] == 0.9
    assert body["stop_token_ids"] == [258] and body["skip_special_tokens"] is True


def test_a_schema_goes_along_and_its_refusal_is_ours(room: Room) -> None:
    schema = {"type": "object", "properties": {"城市": {"enum": ["上海"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with serving(room.engine()) as url:
        told = post(url, response_format=form).json()["error"]["message"]
        assert told == "The upstream server did not keep to the schema.", "the stand-in says base:38"
        cut = post(url, response_format={"type": "json_object"}, max_tokens=3)
        assert cut.json()["choices"][0]["finish_reason"] == "length"
        refused = post(url, IS_REFUSED, response_format=form)
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_json_schema"
        assert refused.json()["error"]["message"].endswith("not possible with the engine behind this server: no")
        assert post(url, IS_REFUSED).status_code == 500, "without a schema it is our own fault"
        several = post(url, n=2, temperature=1).json()
        assert [one["index"] for one in several["choices"]] == [0, 1]
        assert post(url, logprobs=True).json()["error"]["param"] == "logprobs"
    asked = [row["body"] for row in room.asked("/v1/completions")]
    named = {"name": "answer", "schema": schema, "strict": True}
    assert asked[0]["response_format"] == {"type": "json_schema", "json_schema": named}
    assert asked[1]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "response_format" not in asked[3]


def test_the_key_stands_on_no_command_line_and_others_get_nothing(room: Room) -> None:
    engine = room.engine()
    with serving(engine):
        address = engine.upstream.child_address()  # type: ignore[attr-defined]
        (start,) = room.asked("start")
        assert (
            len(address.key) > 20 and address.key not in json.dumps(start["words"]) and address.key not in repr(address)
        )
        assert httpx.get(f"{address.url}/v1/models").status_code == 401
        assert start["offline"] == "1"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address.url}/health")


def test_adapters_of_one_base_share_a_process(room: Room) -> None:
    fleet = Fleet(room.engine(room.adapter("one")))
    with serving(fleet) as url:
        assert "one-1:" in post(url).json()["choices"][0]["message"]["content"]
        other = room.engine(room.adapter("two"))
        other.start()
        kit.until(lambda: other.state == "ready", "the second is there")
        assert len(room.asked("start")) == 1
        words = room.asked("start")[0]["words"]
        assert "--enable-lora" in words and words[words.index("--max-lora-rank") + 1] == "64"
        other.stop()
        assert room.asked("/v1/unload_lora_adapter")[0]["body"] == {"lora_name": "two-2"}
        assert post(url).status_code == 200, "the first one goes on"
    loaded = [row["body"]["lora_name"] for row in room.asked("/v1/load_lora_adapter")]
    assert loaded == ["one-1", "two-2"]


def test_a_client_that_leaves_cancels_there(room: Room) -> None:
    engine = room.engine()
    with serving(engine) as url:
        body = {"model": kit.MODEL, "messages": [{"role": "user", "content": NEVER_ENDS}], "max_tokens": 100}
        body |= {"stream": True, "temperature": 0}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            while '"x"' not in next(lines):
                pass
        kit.until(lambda: bool(room.asked("client left")), "vLLM sees that the connection is closed")
        kit.until(lambda: engine.outstanding == 0, "nothing is left")


def test_faults_are_told_without_content(room: Room) -> None:
    with serving(room.engine()) as url:
        failed = post(url, FAILS)
        assert failed.status_code == 500 and failed.json()["error"]["message"] == "vLLM failed on this request."
        refused = post(url, IS_REFUSED)
        assert refused.status_code == 500 and "(400)" in refused.json()["error"]["message"]
        assert post(url).status_code == 200


def test_one_that_dies_is_started_once_more_then_the_engine_has_failed(room: Room) -> None:
    engine = room.engine(room.adapter("one"))
    with pytest.raises(ResourceError, match=r"vllm ended twice.*exit code 3"), serving(engine) as url:
        assert post(url, KILLS).status_code == 500
        kit.until(lambda: engine.state == "ready" and len(room.asked("start")) == 2, "it is started again")
        assert "one-1:" in post(url).json()["choices"][0]["message"]["content"], "with its adapter"
        assert len(room.said) == 1 and "vllm ended (exit code 3); it is started again" in room.said[0]
        assert post(url, KILLS).status_code == 500
        kit.until(lambda: engine.state == "failed", "it is given up")


def test_one_that_does_not_start_says_why(room: Room, tmp_path: Path) -> None:
    engine = room.engine(base=tmp_path / "broken")
    engine.start()
    kit.until(lambda: engine.state == "failed", "it fails")
    assert isinstance(engine.failure, ResourceError) and "the model has no weights" in str(engine.failure)


def test_what_vllm_cannot_serve_is_refused(room: Room) -> None:
    assert vllm.rank_of(room.adapter("wide", r=8, rank_pattern={"q": 40})) == 64
    assert vllm.rank_of(room.adapter("small", r=8)) == 8 and vllm.rank_of(room.base.parent / "small", least=20) == 32
    with pytest.raises(ArtifactError, match="LoRA adapters only, and this is IA3"):
        vllm.rank_of(room.adapter("other", peft_type="IA3"))
    with pytest.raises(ArtifactError, match="no adapter of rank 1000"):
        vllm.rank_of(room.adapter("huge", r=1000))
    with pytest.raises(MissingExtraError, match="no such Python"):
        vllm.python_of("/nowhere/python")


def test_a_stop_while_it_loads_ends_it(room: Room) -> None:
    room.python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import time; time.sleep(60)" "$@"\n')
    engine = room.engine()
    engine.start()
    time.sleep(0.3)
    started = time.monotonic()
    engine.stop()
    assert time.monotonic() - started < 8 and engine.state == "stopped" and engine.failure is None


def _turns(content: str) -> list[Any]:
    from tunewright.core.chat import Message

    return [Message(role="user", content=content)]
