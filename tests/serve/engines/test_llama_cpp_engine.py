"""llama.cpp as a child of the server: its death is noticed, it is started once more, and it never outlives us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import artifact_kit as made
import engine_kit
import httpx
import psutil
import pytest
import serving_kit as kit

from tunewright.core import files, runs
from tunewright.core.errors import ArtifactError, MissingExtraError, ResourceError
from tunewright.models import llama_program
from tunewright.models.request import Request, Sampling
from tunewright.serve import stage
from tunewright.serve.choose import Files
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines.config import LlamaCppOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.engines.llama_cpp import LlamaUpstream, sampled
from tunewright.serve.engines.speech import Piece, take

pytest.importorskip("gguf")
pytestmark = pytest.mark.skipif(not llama_program.is_present(), reason="neither llama-server nor xllamacpp is here")
ASK = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> engine_kit.Model:
    return engine_kit.Model.made(tmp_path_factory.mktemp("endless") / "model", ends=False, gguf=True)


def post(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": ASK, "max_tokens": 8, "temperature": 0} | change
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def children(engine: Any) -> list[psutil.Process]:
    """The holder and llama.cpp."""
    holder = psutil.Process(engine.upstream.child.process_id)
    return [holder, *holder.children(recursive=True)]


def program(engine: Any) -> psutil.Process:
    return children(engine)[1]


def pids(engine: Any) -> list[int]:
    """Of llama.cpp alone; empty while none runs."""
    try:
        return [child.pid for child in children(engine)[1:] if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def test_one_that_is_killed_is_started_once_more_then_given_up(model: engine_kit.Model) -> None:
    with pytest.raises(ResourceError, match=r"llamacpp ended twice.*exit code -9"):  # noqa: SIM117
        with engine_kit.serving("llamacpp", model) as (url, engine), ThreadPoolExecutor(1) as pool:
            alone = post(url).json()["choices"][0]["message"]["content"]
            first = program(engine)
            running = pool.submit(post, url, max_tokens=3900)
            kit.until(lambda: engine.running == 1, "it runs")
            first.kill()
            assert running.result().status_code == 500
            kit.until(lambda: engine.state == "ready" and pids(engine) not in ([], [first.pid]), "it is started again")
            assert post(url).json()["choices"][0]["message"]["content"] == alone
            program(engine).kill()
            kit.until(lambda: engine.state == "failed", "it is given up")
            kept = engine
    assert kept.outstanding == 0


def test_while_it_is_started_again_clients_are_told_to_come_back(
    model: engine_kit.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_kit.serving("llamacpp", model) as (url, engine):
        upstream: Any = engine.upstream  # type: ignore[attr-defined]
        start, go_on = upstream.start, list[bool]()
        monkeypatch.setattr(upstream, "start", lambda stopping: [kit.until(lambda: bool(go_on), "go"), start(stopping)])
        program(engine).kill()
        kit.until(lambda: engine.state == "failing", "its death is noticed")
        refused = post(url)
        assert refused.status_code == 503 and "started again" in refused.json()["error"]["message"]
        assert httpx.get(f"{url}/ready").status_code == 503 and httpx.get(f"{url}/health").status_code == 200
        go_on.append(True)
        kit.until(lambda: httpx.get(f"{url}/ready").status_code == 200, "it is back")


def test_the_key_stands_on_no_command_line_and_nothing_is_open_without_it(model: engine_kit.Model) -> None:
    with engine_kit.serving("llamacpp", model) as (_, engine):
        address = engine.upstream.child.address  # type: ignore[attr-defined]
        words = [word for child in children(engine) for word in child.cmdline()]
        assert len(address.key) > 20 and not any(address.key in word for word in words)
        assert address.url.startswith("http://127.0.0.1:") and address.key not in repr(address)
        assert httpx.post(f"{address.url}/completion", json={"prompt": [1]}).status_code == 401
        listening = {c.laddr.ip for child in children(engine) for c in child.net_connections() if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        before = children(engine)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in before)


OWNER = """
import sys, threading, time
from tunewright.models import llama_program
from tunewright.serve.engines.child import Child, Program

def words(port):
    return llama_program.words_for(llama_program.LlamaSettings(sys.argv[1], 128, 1, port, 1))

child = Child(Program("llama.cpp", words, llama_program.KEY))
child.start(threading.Event())
print(child.process_id, flush=True)
time.sleep(600)
"""


def test_it_ends_when_we_are_killed_with_9(model: engine_kit.Model) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(model.gguf)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    holder = psutil.Process(int(owner.stdout.readline()))
    left = [holder, *holder.children(recursive=True)]
    assert len(left) == 2
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    kit.until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left), "all have ended")


def test_a_file_that_does_not_load_is_told_with_its_reason(model: engine_kit.Model, tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    opened = Files(model.folder, model.tokenizer, broken)
    engine = UpstreamEngine(LlamaUpstream(lambda: opened, LlamaCppOptions(context=128), slots=1), Place(1, 1))
    engine.start()
    kit.until(lambda: engine.state == "failed", "it fails")
    assert isinstance(engine.failure, ResourceError) and "llama.cpp did not start" in str(engine.failure)


def test_what_is_refused_while_files_are_opened_is_the_failure(model: engine_kit.Model) -> None:
    def changed() -> Files:
        raise ArtifactError("the file changed after it was sealed", where="model.gguf")

    engine = UpstreamEngine(LlamaUpstream(changed, LlamaCppOptions(), slots=1), Place(1, 1))
    engine.start()
    kit.until(lambda: engine.state == "failed", "it fails")
    assert isinstance(engine.failure, ArtifactError)


def test_the_stage_serves_and_measures_the_accepted_gguf(model: engine_kit.Model, tmp_path: Path) -> None:
    assert model.gguf is not None
    workspace: Any = made.workspace(tmp_path)
    data, trained = made.data(workspace, ["Hi?", "And you?"]), made.train(workspace)
    output: Any = runs.begin(workspace, "quantize", {}, (workspace.reference(trained),))
    variant = output.path / "gguf-q8_0"
    variant.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.gguf"):
        shutil.copy(model.folder / name, variant / name)
    info = made.info("quantized", chat_template_sha256=model.tokenizer.template.sha256)
    files.write_text(variant / "model.json", info.model_dump_json())
    files.write_json(output.path / "table.json", [made.row("gguf-q8_0", 200.0, engine="llama.cpp (a build)")])
    config = ServeConfig.model_validate({"engine": "llamacpp", "batch_size": 2, "max_new_tokens": 8})
    measured = stage.measure(
        workspace, config, model=made.MODEL, data=data, quantize=output.seal(), train=trained
    ).json("measurement.json")
    assert (measured["engine"], measured["variant"]) == ("llamacpp", "gguf-q8_0") and measured["tokens_per_second"] > 0


def test_a_llama_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = llama_program.LlamaSettings("m.gguf", context=100, slots=3, port=4000, threads=2)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_program.words_for(settings)[2].endswith("llama_child.py")
    (tmp_path / "llama-server").write_text("#!/bin/sh\n")
    (tmp_path / "llama-server").chmod(0o755)
    words = llama_program.words_for(settings)
    assert words[0] == str(tmp_path / "llama-server")
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options == {
        "--model": "m.gguf", "--ctx-size": "300", "--parallel": "3",
        "--host": "127.0.0.1", "--port": "4000", "--threads": "2",
    }  # fmt: skip
    (tmp_path / "llama-server").unlink()
    monkeypatch.setattr(llama_program, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="neither llama-server nor xllamacpp"):
        llama_program.words_for(settings)


def test_seeds_of_any_size_are_seeds_of_llama_cpp() -> None:
    """Its 2**32 - 1 would mean a random one."""
    seeds = [sampled(Sampling(seed=seed))["seed"] for seed in (0, 7, -1, 2**32 - 1, 2**62)]
    assert all(0 <= seed < 2**32 - 1 for seed in seeds) and seeds[1] == 7
    assert "seed" not in sampled(Sampling())


def test_stop_strings_are_found_across_pieces_and_never_shown() -> None:
    shown: list[str] = []
    request = Request([1], Sampling(max_new_tokens=50, stop=("END",)), on_text=shown.append)
    for count, text in enumerate(["a", "b E", "N", "x E", "ND", " more"], 1):
        if request.finish is None:
            take(request, Piece(text, count))
    assert (request.text, request.finish, len(request.output_ids)) == ("ab ENx ", "stop", 5)
    assert "".join(shown) == "ab ENx " and shown[1] == "b ", "the start of a stop string waits"


def test_no_answer_is_longer_than_it_may_be() -> None:
    request = Request([1], Sampling(max_new_tokens=2))
    take(request, Piece("a", 1))
    take(request, Piece("b", 2))
    assert request.finish == "length" and len(request.output_ids) == 2
