"""Queue, cancellation, faults, loading and draining over real HTTP, without sleeping for luck."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import serving_kit as kit

from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.listen import bind, local_url, url
from tunewright.serve import engine as engines
from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.prefills import WHILE_ROWS_RUN
from tunewright.serve.server import Server, in_thread

BODY = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 200, "temperature": 0}


def post(url: str, **change) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=BODY | change, timeout=kit.DEADLINE_S)


def streamed(url: str, **change):
    return httpx.stream("POST", f"{url}/v1/chat/completions", json=BODY | {"stream": True} | change, timeout=60)


def events(response: httpx.Response) -> list[dict | str]:
    found = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [data if data == "[DONE]" else json.loads(data) for data in found]


def test_a_full_queue_is_429_and_the_accepted_are_all_answered():
    loaded = kit.tiny()
    with kit.serving(loaded, batch_size=2, queue=1) as (url, engine), ThreadPoolExecutor(4) as pool:
        loaded.model.gate.clear()
        accepted = [pool.submit(post, url, max_tokens=4) for _ in range(3)]
        kit.until(lambda: engine.outstanding == 3, "three requests are accepted")
        refused = post(url, max_tokens=4)
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        loaded.model.gate.set()
        assert [future.result().status_code for future in accepted] == [200, 200, 200]
        assert engine.outstanding == 0 and post(url, max_tokens=2).status_code == 200


def test_a_streaming_client_that_leaves_frees_its_row_within_a_step():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine):
        with streamed(url) as response:
            next(response.iter_lines())
            kit.until(lambda: engine.running == 1, "the row runs")
            loaded.model.gate.clear()
            answer = engine._running[0]
        kit.until(lambda: answer.request.cancelled, "the disconnect is noticed")
        before = loaded.model.passes
        loaded.model.gate.set()
        kit.until(lambda: engine.outstanding == 0, "the row left")
        assert engine.running == 0 and answer.request.finish == "cancelled"
        assert loaded.model.passes <= before + 1, "at most the pass that was running"


def test_a_waiting_client_that_leaves_frees_its_row_and_its_neighbour_goes_on():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        neighbour = pool.submit(post, url, max_tokens=30)
        kit.until(lambda: engine.outstanding == 1, "the neighbour is accepted")
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=httpx.Timeout(30, read=0.1))
        kit.until(lambda: engine._waiting and engine._waiting[0].request.cancelled, "the disconnect is noticed")
        loaded.model.gate.set()
        assert neighbour.result().json()["usage"]["completion_tokens"] == 30
        kit.until(lambda: engine.outstanding == 0, "both have ended")


def test_a_running_client_without_stream_that_leaves_is_cancelled():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine):
        with socket.create_connection(url.removeprefix("http://").split(":"), 10) as raw:
            body = json.dumps(BODY).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            loaded.model.gate.clear()
            raw.sendall(head.encode() + body)
            kit.until(lambda: loaded.model.held, "the row runs")
            answer = engine._running[0]
        kit.until(lambda: answer.request.cancelled, "the disconnect is noticed")
        loaded.model.gate.set()
        kit.until(lambda: engine.outstanding == 0, "the row left")
        assert len(answer.request.output_ids) <= 2


def test_requests_join_a_running_batch_between_steps():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine), ThreadPoolExecutor(1) as pool, streamed(url) as response:
        lines = response.iter_lines()
        next(lines)
        loaded.model.gate.clear()
        long = engine._running[0].request
        later = pool.submit(post, url, max_tokens=3)
        kit.until(lambda: len(engine._waiting) == 1, "the short one is accepted while the long one runs")
        short = engine._waiting[0].request
        loaded.model.gate.set()
        assert later.result().status_code == 200
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert (len(short.output_ids), len(long.output_ids)) == (3, 200)
    assert short.created + short.seconds < long.created + long.seconds, "the short one, which came later, ended first"


def test_long_prompts_join_one_at_a_time_and_short_ones_together():
    loaded = kit.tiny()
    widths: list[tuple[int, int]] = []
    with kit.serving(loaded, batch_size=8) as (url, engine), ThreadPoolExecutor(6) as pool:
        loaded.model.gate.clear()
        first = pool.submit(post, url, max_tokens=60)
        kit.until(lambda: loaded.model.held, "one row runs")
        engine._batch.begin = _recording(engine._batch.begin, widths)
        texts = ["x" * 300, "x" * 300, "a", "b"]
        others = []
        for place, text in enumerate(texts):
            others.append(pool.submit(post, url, max_tokens=30, messages=[{"role": "user", "content": text}]))
            kit.until(lambda place=place: engine.outstanding == place + 2, "the next request is accepted")
        loaded.model.gate.set()
        assert all(future.result().status_code == 200 for future in [first, *others])
    assert [rows for rows, _ in widths] == [1, 1, 2]


def _recording(begin, widths):
    def recorded(requests):
        widths.append((len(requests), max(len(request.prompt_ids) for request in requests)))
        return begin(requests)

    return recorded


def test_a_long_prompt_is_computed_between_the_steps_of_running_answers():
    """Its pieces are at most `WHILE_ROWS_RUN` tokens, and between two of them every running row gets its token."""
    loaded = kit.tiny()
    happened: list[tuple[str, int]] = []
    with kit.serving(loaded, batch_size=4) as (url, engine), ThreadPoolExecutor(3) as pool:
        alone = post(url, max_tokens=20, messages=[{"role": "user", "content": "y" * 380}]).json()["choices"]
        loaded.model.gate.clear()
        running = pool.submit(post, url, max_tokens=60)
        kit.until(lambda: loaded.model.held, "one row runs")
        compute, step = engine._batch._compute, engine._batch.step
        engine._batch._compute = lambda group, columns: (
            happened.append(("piece", min(columns, group.ids.shape[1] - group.done) * len(group.ids))),
            compute(group, columns),
        )[1]
        engine._batch.step = lambda: (happened.append(("step", len(engine._batch.rows))), step())[1]
        long = pool.submit(post, url, max_tokens=20, messages=[{"role": "user", "content": "y" * 380}])
        kit.until(lambda: engine.outstanding == 2, "the long one waits")
        loaded.model.gate.set()
        assert long.result().json()["choices"] == alone, "in pieces it says what it says in one"
        assert running.result().status_code == 200
    pieces = [place for place, (kind, _) in enumerate(happened) if kind == "piece"]
    assert len(pieces) == 2 and all(happened[place][1] <= WHILE_ROWS_RUN for place in pieces)
    assert ("step", 1) in happened[pieces[0] : pieces[1]], "the running answer went on"


def test_a_short_prompt_overtakes_one_that_is_computed_in_pieces(monkeypatch):
    monkeypatch.setattr(engines, "WHILE_ROWS_RUN", 64)
    loaded = kit.tiny()
    with kit.serving(loaded, batch_size=4) as (url, engine), ThreadPoolExecutor(3) as pool:
        loaded.model.gate.clear()
        running = pool.submit(post, url, max_tokens=60)
        kit.until(lambda: loaded.model.held, "one row runs")
        joined: list[int] = []
        join = engine._batch._join
        engine._batch._join = lambda group, logits: (joined.append(group.ids.shape[1]), join(group, logits))[1]
        futures = [running]
        for place, text in enumerate(["y" * 420, "z"]):
            futures.append(pool.submit(post, url, max_tokens=5, messages=[{"role": "user", "content": text}]))
            kit.until(lambda place=place: engine.outstanding == place + 2, "the next request is accepted")
        loaded.model.gate.set()
        assert all(future.result().status_code == 200 for future in futures)
    assert joined[1] < joined[2], "the short one joined first"


def test_a_fault_in_the_model_is_500_and_the_engine_lives_on(capfd):
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine):
        wanted = post(url, max_tokens=5).json()["choices"]
        loaded.model.fault = RuntimeError("the text of a fault: Hello, who are you?")
        failed = post(url, max_tokens=5)
        assert failed.status_code == 500 and failed.json()["error"]["type"] == "server_error"
        assert "text of a fault" not in failed.text
        assert post(url, max_tokens=5).json()["choices"] == wanted
        for _ in range(3):
            assert httpx.get(f"{url}/ready").status_code == 200
            loaded.model.fault = RuntimeError("again")
            assert post(url, max_tokens=5).status_code == 500
        assert httpx.get(f"{url}/ready").status_code == 503 and httpx.get(f"{url}/health").status_code == 200
        assert post(url, max_tokens=5).json()["choices"] == wanted
        assert httpx.get(f"{url}/ready").status_code == 200 and engine.outstanding == 0
    logged = capfd.readouterr().err
    assert "RuntimeError at serving_kit.py" in logged and "who are you" not in logged


def test_a_fault_in_a_joining_prompt_leaves_the_running_answer_alone():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine), ThreadPoolExecutor(2) as pool:
        wanted = post(url, max_tokens=60).json()["choices"]
        loaded.model.gate.clear()
        running = pool.submit(post, url, max_tokens=60)
        kit.until(lambda: loaded.model.held, "the first runs")
        advance = engine._batch.advance
        engine._batch.advance = lambda *_: (_ for _ in ()).throw(RuntimeError("no memory for this prompt"))
        joining = pool.submit(post, url, max_tokens=60)
        kit.until(lambda: engine.outstanding == 2, "the second waits")
        loaded.model.gate.set()
        assert joining.result().status_code == 500
        engine._batch.advance = advance
        assert running.result().json()["choices"] == wanted


def test_a_fault_in_a_running_stream_is_an_error_event():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, _), streamed(url) as response:
        loaded.model.fault = RuntimeError("midstream")
        got = events(response)
    assert response.status_code == 200 and got[-1]["error"]["type"] == "server_error" and "[DONE]" not in got


def test_ready_is_503_while_loading_and_requests_are_refused():
    loaded, may_load = kit.tiny(), threading.Event()

    def load():
        assert may_load.wait(kit.DEADLINE_S)
        return loaded

    said: list[str] = []
    server = Server(
        TransformersEngine(load, batch_size=1, queue=1), ServeConfig(port=0), kit.named("m"), log=said.append
    )
    url = server.url
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        kit.until(lambda: _status(f"{url}/health") == 200, "alive while loading")
        assert httpx.get(f"{url}/ready").json() == {"status": "loading"}
        assert post(url, model="m").status_code == 503
        may_load.set()
        kit.until(lambda: _status(f"{url}/ready") == 200, "ready after loading")
        kit.until(lambda: any(url in line for line in said), "the URL is said")
    finally:
        may_load.set()
        server.drain()
        thread.join()


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_error():
    def load():
        raise ArtifactError("the weights are gone", where="here")

    server = Server(TransformersEngine(load, batch_size=1, queue=1), ServeConfig(port=0), kit.named("m"))
    with pytest.raises(ArtifactError, match="the weights are gone"), in_thread(server):
        raise AssertionError("a server without a model is not ready")


def test_a_busy_port_is_named_with_its_key():
    with contextlib.closing(bind("127.0.0.1", 0, section="serve")) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"port {port} .* taken .*\n.*serve\.port=") as caught:
            bind("127.0.0.1", port, section="serve")
    assert caught.value.exit_code == 1


def test_an_address_that_is_not_known_is_named_with_its_key():
    with pytest.raises(ResourceError, match=r"rate\.host: the address no\.such\.invalid is not known"):
        bind("no.such.invalid", 0, section="rate")


@pytest.mark.parametrize(
    ("host", "shown", "near"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("::", "http://[::]:80", "http://[::1]:80"),
        ("192.0.2.7", "http://192.0.2.7:80", "http://192.0.2.7:80"),
    ],
)
def test_a_url_is_one_that_can_be_reached(host, shown, near):
    assert (url(host, 80), local_url(host, 80)) == (shown, near), "only an address that stands for all is replaced"


def test_answers_that_outlast_the_drain_are_cancelled_with_an_error():
    loaded = kit.tiny()
    config = ServeConfig(port=0, shutdown_timeout_s=0)
    engine = TransformersEngine(lambda: loaded, batch_size=4, queue=1)
    server = Server(engine, config, kit.named(), log=lambda _: None)
    with ThreadPoolExecutor(1) as pool, in_thread(server) as url, streamed(url) as response:
        lines = response.iter_lines()
        next(lines)
        loaded.model.gate.clear()
        whole = pool.submit(post, url)
        kit.until(lambda: engine.outstanding == 2, "both are accepted")
        server.drain()
        kit.until(lambda: all(a.interrupted.is_set() for a in [*engine._running, *engine._waiting]), "cancelled")
        loaded.model.gate.set()
        last = [json.loads(line.removeprefix("data: ")) for line in lines if line][-1]
        assert last["error"]["code"] == "service_unavailable"
        assert whole.result().status_code == 503


def test_sigterm_drains_the_running_stream_and_exits_0():
    command = [sys.executable, str(Path(__file__).with_name("served_process.py")), "0.03", "20"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = _announced(process)
            with httpx.Client() as other, streamed(url, max_tokens=40) as response:
                lines = response.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                kit.until(lambda: other.get(f"{url}/ready").status_code == 503, "not ready while draining")
                assert other.get(f"{url}/health").status_code == 200
                assert other.post(f"{url}/v1/chat/completions", json=BODY).status_code == 503
                rest = [line for line in lines if line]
            assert rest[-1] == "data: [DONE]" and '"finish_reason":"length"' in rest[-2]
            assert process.wait(kit.DEADLINE_S) == 0
        finally:
            process.kill()
        log = process.stderr.read()
    assert "1 answers may finish" in log and "Hello" not in log and "Traceback" not in log


def _announced(process: subprocess.Popen) -> str:
    for line in process.stderr:
        if "ready at" in line:
            return line.rsplit(maxsplit=1)[-1].removesuffix("/v1")
    raise AssertionError("the server ended before it was ready")
