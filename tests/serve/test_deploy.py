"""The deployment examples say what the program understands: settings, verbs, paths and times."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml

from tunewright import cli, project
from tunewright.serve.config import ServeConfig
from tunewright.serve.jobs import broker, service

DEPLOY = Path(__file__).resolve().parents[2] / "examples/deploy"
PROJECT = (
    'name: bank\nmodel: {path: "builtin:tiny"}\ndata: {sources: [rows.jsonl]}\nserve: {api_key: "${TUNEWRIGHT_KEY}"}\n'
)
STOP_S = ServeConfig().shutdown_timeout_s + 5 + service.STOP_S + broker.STOP_S
"""Drain, interrupted rows, workers, broker."""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TUNEWRIGHT_KEY", "k")
    path = tmp_path / "project.yaml"
    path.write_text(PROJECT, encoding="utf-8")
    return path


def test_the_unit_starts_a_verb_with_valid_settings_and_leaves_time_to_drain(file):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(DEPLOY / "tunewright.service")
    words = unit["Service"]["ExecStart"].split()
    assert words[0].endswith("/tunewright") and words[1] in cli.VERBS and words[2].endswith("project.yaml")
    assert project.load(file, words[3:]).serve.log == "json"
    assert float(unit["Service"]["TimeoutStopSec"]) > STOP_S
    assert unit["Service"]["KillMode"] == "mixed", "workers are the server's to end"
    assert unit["Service"]["ReadWritePaths"] == str(Path(words[2]).parent / "runs")


def test_the_image_starts_the_server_and_looks_at_its_health(file):
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    options = json.loads(re.search(r"^CMD (.*)$", text, re.MULTILINE)[1])
    assert entry[:2] == ["tunewright", "serve"] and entry[2].startswith("/project/")
    loaded = project.load(file, options).serve
    assert loaded.host == "0.0.0.0" and f"EXPOSE {loaded.port}" in text and f"127.0.0.1:{loaded.port}/health" in text
    assert text.index("USER tunewright") < text.index("ENTRYPOINT"), "not as root"
    root = DEPLOY.parents[1]
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        assert all((root / name).exists() for name in line.split()[:-1]), line


def test_the_composed_server_has_its_broker_and_cache(file, monkeypatch):
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]
    server = services["server"]
    words = [word.replace("$$", "$") for word in server["command"]]
    loaded = project.load(file, words).serve
    for name, used in (("BROKER_URL", loaded.jobs), ("CACHE_URL", loaded.cache)):
        monkeypatch.setenv(name, server["environment"][name])
        host = re.search(r"@([a-z]+):6379", used.url())[1]
        assert host in services and host in server["depends_on"]
    assert "noeviction" in services["broker"]["command"] and "appendonly yes" in services["broker"]["command"]
    assert "allkeys-lru" in services["cache"]["command"]
    assert float(server["stop_grace_period"].removesuffix("s")) > STOP_S
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_the_composed_worker_takes_jobs_of_that_server(file, monkeypatch):
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]
    server, worker = services["server"], services["worker"]
    words = [word.replace("$$", "$") for word in server["command"]]
    assert project.load(file, words).serve.jobs.workers == 0, "the worker of its own is the only one"
    assert worker["entrypoint"][:3] == ["tunewright", "serve", "worker"]
    own = project.load(file, [word.replace("$$", "$") for word in worker["command"]]).serve
    for settings, service_of in ((project.load(file, words).serve, server), (own, worker)):
        monkeypatch.setenv("BROKER_URL", service_of["environment"]["BROKER_URL"].replace(":?set a password", ""))
        addresses = settings.jobs.url()
        assert "@broker:6379/0" in addresses
    assert worker["network_mode"] == "service:server", "it asks the server at 127.0.0.1"
    assert worker["volumes"] == server["volumes"], "it finds the server and its keys in the project's folder"


def test_the_pods_run_what_this_program_understands(file, monkeypatch):
    deployment, service_of, scaler = yaml.safe_load_all((DEPLOY / "kubernetes.yml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    ours, vllm = pod["containers"]
    loaded = project.load(file, ours["args"]).serve
    port = int(re.search(r":(\d+)/", loaded.engine.url)[1])
    assert loaded.engine.name == "remote" and loaded.host == "0.0.0.0"
    assert vllm["args"][vllm["args"].index("--port") + 1] == str(port)
    assert vllm["args"][vllm["args"].index("--host") + 1] == "127.0.0.1", "only tunewright reaches it"
    assert ours["ports"][0]["containerPort"] == loaded.port
    paths = (DEPLOY.parents[1] / "src/tunewright/serve/app.py").read_text(encoding="utf-8")
    for probe in ("readinessProbe", "livenessProbe"):
        assert f'@app.get("{ours[probe]["httpGet"]["path"]}")' in paths
    assert pod["terminationGracePeriodSeconds"] > STOP_S
    assert service_of["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f'"{metric}"' in (DEPLOY.parents[1] / "src/tunewright/serve/metrics.py").read_text(encoding="utf-8")
