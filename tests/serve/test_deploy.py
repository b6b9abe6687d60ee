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
