"""Several models in one server over real HTTP: by name, loaded and unloaded while it runs, canaries, promotion."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import artifact_kit as made
import httpx
import pytest
import serving_kit as kit
import torch

from tunewright.core import files, named, promoted
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.promoted import Current
from tunewright.core.runs import Artifact, Workspace
from tunewright.serve import roster, serving
from tunewright.serve.choose import Choice, choose
from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.fleet import Fleet
from tunewright.serve.prepared import Loaded
from tunewright.serve.roster import Sources
from tunewright.serve.server import Server, in_thread
from tunewright.serve.switch import in_share

BODY = {"messages": kit.HELLO, "max_tokens": 12, "temperature": 0}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return made.workspace(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "FOLLOW_S", 0.05)


class Models:
    """Makes engines whose answers tell artifacts apart: each one's weights are turned by another seed."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.held: dict[str, kit.HeldModel] = {}
        self.engines: list[TransformersEngine] = []

    def make(self, choice: Choice) -> TransformersEngine:
        def load() -> Loaded:
            loaded = kit.tiny()
            weight = loaded.model._model.model.layers[0].mlp.down_proj.weight
            drawn = torch.Generator().manual_seed(int(choice.artifact.path.name))
            weight.data.add_(torch.randn(weight.shape, generator=drawn))
            self.held[choice.artifact.path.name] = loaded.model
            return loaded

        self.engines.append(TransformersEngine(load, batch_size=4, queue=16, say=lambda _: None))
        return self.engines[-1]


@contextlib.contextmanager
def serving_fleet(workspace: Workspace, **options: Any) -> Iterator[tuple[str, Models, list[str]]]:
    follow = options.pop("follow", False)
    config = ServeConfig(port=0, shutdown_timeout_s=5, cache={"store": "memory"}, **options)
    models, said = Models(config), []
    choice = choose(workspace, made.MODEL)
    names = tuple(dict.fromkeys([*config.models, *([config.canary.name] if config.canary else [])]))
    sources = Sources(
        workspace, made.MODEL, models.make, said.append, primary="intent.accuracy", follow=follow, at_start=names
    )
    parts = serving.parts(workspace, config, choice, sources, say=said.append)
    with in_thread(Server(Fleet(models.make(choice)), config, parts, log=said.append)) as url:
        if names:
            kit.until(lambda: len(listed(url)) == 1 + len(names), "the named models are loaded")
        yield url, models, said


def listed(url: str) -> list[str]:
    return [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]


def ask(url: str, model: str = "bank", headers: dict[str, str] | None = None, **change: Any) -> httpx.Response:
    body = BODY | {"model": model} | change
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers or {}, timeout=kit.DEADLINE_S)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def point(workspace: Workspace, artifact: Artifact) -> None:
    """What `promote` does last."""
    current = Current(
        artifact=workspace.relative(artifact.path),
        variant="tuned",
        manifest_sha256=artifact.manifest_sha256,
        since=datetime.now(UTC),
        by="Zhang Wei",
        entry="0",
    )
    promoted.folder(workspace).mkdir(parents=True, exist_ok=True)
    files.write_text(promoted.folder(workspace) / promoted.CURRENT, current.model_dump_json())


def test_models_are_asked_by_name_and_come_and_go(workspace: Workspace) -> None:
    first, second = made.train(workspace, number=1), made.train(workspace, number=2)
    named.register(workspace, "support", first, "tuned")
    with serving_fleet(workspace) as (url, models, _):
        assert listed(url) == ["bank"] and ask(url, "support").status_code == 404
        loaded = httpx.post(f"{url}/v1/load_lora_adapter", json={"lora_name": "support"}, timeout=30)
        assert loaded.json() == {"status": "loaded", "lora_name": "support"} and listed(url) == ["bank", "support"]
        main, other = ask(url), ask(url, "support")
        assert text(main) != text(other) and other.json()["model"] == "support"
        assert text(ask(url, "support")) == text(other) and ask(url, "support").headers["x-cache"] == "hit"
        shown = httpx.get(f"{url}/v1/models/support").json()
        assert shown["artifact"] == workspace.relative(first.path) != workspace.relative(second.path)
        models.held["0001"].gate.clear()
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(ask, url, "support", max_tokens=9)
            kit.until(lambda: models.engines[-1].outstanding == 1, "a request is in work")
            assert httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": "support"}).status_code == 200
            assert ask(url, "support").status_code == 404 and listed(url) == ["bank"]
            models.held["0001"].gate.set()
            assert late.result().status_code == 200, "what was accepted is answered"
        kit.until(lambda: models.engines[-1].state == "stopped", "then its engine ends")


def test_a_path_an_unknown_name_and_a_broken_model_are_refused(workspace: Workspace) -> None:
    first = made.train(workspace, number=1)
    named.register(workspace, "support", first, "tuned")
    with serving_fleet(workspace) as (url, _, _):

        def load(**body: Any) -> tuple[int, str]:
            response = httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=30)
            return response.status_code, response.json()["error"]["message"]

        assert load(lora_name="x", lora_path="/etc") == (
            400,
            "A path is not taken from a request. Register the model with `tunewright serve add`, then load its name.",
        )
        for name in ("nobody", "../bank/current", "", "a" * 99):
            assert load(lora_name=name)[0] == 400
        assert load()[0] == 400
        pointer = named.folder(workspace) / "support.json"
        pointer.write_text(pointer.read_text().replace(first.manifest_sha256, "0" * 64))
        status, message = load(lora_name="support")
        assert status == 400 and "changed after it was registered" in message
        assert listed(url) == ["bank"] and text(ask(url))


def test_only_admins_load_models(workspace: Workspace) -> None:
    made.train(workspace, number=1)
    options = {"api_key": "admin-key", "api_keys": {"shop": "shop-key"}}
    with serving_fleet(workspace, **options) as (url, _, _):
        body = {"lora_name": "nobody"}
        as_shop = httpx.post(f"{url}/v1/load_lora_adapter", json=body, headers={"Authorization": "Bearer shop-key"})
        as_admin = httpx.post(f"{url}/v1/load_lora_adapter", json=body, headers={"Authorization": "Bearer admin-key"})
        nobody = httpx.post(f"{url}/v1/load_lora_adapter", json=body)
        assert [answer.status_code for answer in (nobody, as_shop, as_admin)] == [401, 403, 400]


def test_a_canary_gets_its_share_and_the_log_has_both_scores(workspace: Workspace) -> None:
    first, _ = made.train(workspace, number=1), made.train(workspace, number=2)
    named.register(workspace, "next", first, "tuned")
    options = {"canary": {"name": "next", "percent": 30}, "log": "json"}
    with serving_fleet(workspace, **options) as (url, _, said):
        by_name = text(ask(url, "next"))
        keys = [f"customer-{number}" for number in range(40)]
        answers = [text(ask(url, headers={"X-Canary-Key": key})) for key in keys]
        again = [text(ask(url, user=key)) for key in keys]
    wanted = [in_share(key, 30) for key in keys]
    assert [answer == by_name for answer in answers] == wanted == [answer == by_name for answer in again]
    assert 0 < sum(wanted) < 40
    assert sum('"served": "next"' in line for line in said) == 2 * sum(wanted) + 1


def test_shares_grow_without_moving_anybody_and_are_what_they_say() -> None:
    keys = [str(number) for number in range(20_000)]
    five, ten = ([key for key in keys if in_share(key, percent)] for percent in (5, 10))
    assert set(five) < set(ten)
    # binomial(20000, .05): standard deviation 30.8, of .10: 42.4; four of them on each side
    assert abs(len(five) - 1000) < 124 and abs(len(ten) - 2000) < 170
    assert not any(in_share(key, 0) for key in keys) and all(in_share(key, 100) for key in keys)


def test_promotion_and_rollback_are_followed_without_a_dropped_request(workspace: Workspace) -> None:
    first, second = made.train(workspace, number=1), made.train(workspace, number=2)
    point(workspace, first)
    with serving_fleet(workspace, follow=True) as (url, models, said):
        old, stop, statuses, texts = text(ask(url)), threading.Event(), [], set()

        def keep_asking(worker: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                answer = ask(url, headers={"Cache-Control": "no-store"}, max_tokens=40)
                statuses.append(answer.status_code)
                texts.add(answer.json()["choices"][0]["message"]["content"][:12])

        with ThreadPoolExecutor(3) as pool:
            workers = [pool.submit(keep_asking, worker) for worker in range(3)]
            try:
                for target in (second, first):
                    before = len(models.engines)
                    point(workspace, target)
                    wanted = workspace.relative(target.path)
                    kit.until(lambda wanted=wanted: _artifact(url) == wanted, "the promoted model answers")
                    assert len(models.engines) == before + 1
            finally:
                stop.set()
            for worker in workers:
                worker.result()
        assert text(ask(url)) == old and set(statuses) == {200}
        kit.until(
            lambda: [engine.state for engine in models.engines] == ["stopped", "stopped", "ready"], "old ones end"
        )
        (second.path / "manifest.json").write_text("{}")
        point(workspace, second)
        kit.until(lambda: any("was not taken over" in line for line in said), "a broken one is told of")
        assert text(ask(url)) == old
        time.sleep(0.2)
        assert sum("was not taken over" in line for line in said) == 1


def _artifact(url: str) -> str:
    return str(httpx.get(f"{url}/v1/models").json()["data"][0]["artifact"])


def test_names_are_words_and_their_artifacts_are_kept(workspace: Workspace) -> None:
    first = made.train(workspace, number=1)
    for wrong in ("", "../x", "a/b", "a" * 65, ".hidden", "bank"):
        with pytest.raises(ConfigError):
            named.register(workspace, wrong, first, "tuned")
    named.register(workspace, "support", first, "tuned")
    assert named.names(workspace) == ["support"] and named.in_use(workspace) == [first.path.resolve()]
    named.forget(workspace, "support")
    with pytest.raises(ArtifactError, match="known: none"):
        named.read(workspace, "support")
