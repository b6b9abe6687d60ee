from __future__ import annotations

import time

import artifact_kit as made
import pytest
import serving_kit as kit

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError, ResourceError, TunewrightError
from tunewright.core.listen import bind
from tunewright.models.generate import Sampling, generate
from tunewright.serve import probe, stage
from tunewright.serve.config import JobsConfig, ServeConfig
from tunewright.serve.folders import served_folder
from tunewright.serve.jobs.broker import EmbeddedBroker


@pytest.fixture
def workspace(tmp_path):
    return made.workspace(tmp_path)


def test_measure_seals_the_speeds_and_is_skipped_the_second_time(workspace):
    data, trained = made.data(workspace, [f"question {n}" for n in range(10)]), made.train(workspace)
    config = ServeConfig(api_key="k", queue=0, batch_size=2)
    artifact = stage.measure(workspace, config, model=made.MODEL, data=data, quantize=None, train=trained)
    measured = artifact.json("measurement.json")
    assert measured.keys() == {
        "first_token_s", "tokens_per_second", "requests", "concurrency", "engine", "variant",
    }  # fmt: skip
    assert (measured["requests"], measured["concurrency"]) == (8, 8)
    assert (measured["engine"], measured["variant"]) == ("transformers", "tuned")
    assert 0 < measured["first_token_s"] < 10 and 1 < measured["tokens_per_second"] < 100_000
    assert artifact.manifest.passed and [ref.path for ref in artifact.manifest.inputs][1:] == ["runs/bank/train/0001"]
    moved = config.model_copy(update={"port": 9000})
    again = stage.measure(workspace, moved, model=made.MODEL, data=data, quantize=None, train=trained)
    assert again.path == artifact.path


def test_measure_takes_the_fastest_variant(workspace):
    trained = made.train(workspace)
    table = [made.row("bf16", 10.0), made.row("int8", 5.0)]
    quantized = made.quantize(workspace, trained, table)
    data = made.data(workspace, ["中" * 400])  # far over the tiny model's 512 byte tokens: cut, not refused
    artifact = stage.measure(workspace, ServeConfig(), model=made.MODEL, data=data, quantize=quantized, train=trained)
    assert artifact.json("measurement.json")["variant"] == "bf16"


def test_measure_without_test_rows_leaves_no_finished_artifact(workspace):
    data, trained = made.data(workspace, []), made.train(workspace)
    with pytest.raises(ArtifactError, match="test split is empty"):
        stage.measure(workspace, ServeConfig(), model=made.MODEL, data=data, quantize=None, train=trained)
    assert workspace.finished("serve") == []


def test_run_names_a_busy_port_before_it_loads_the_model(workspace, monkeypatch):
    trained = made.train(workspace)
    monkeypatch.setattr("tunewright.models.tuned.open_tuned", lambda *_, **__: pytest.fail("the model was loaded"))
    taken = bind("127.0.0.1", 0, section="serve")
    try:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port}"):
            config = ServeConfig(port=port, jobs=JobsConfig(broker="embedded"))
            stage.run(workspace, config, model=made.MODEL, source=trained.path)
    finally:
        taken.close()
    broker = EmbeddedBroker(served_folder(workspace) / "broker")
    broker.start()  # raises where the broker of the server that never ran still lives
    broker.stop()


def test_the_probe_counts_what_the_server_sent():
    loaded = kit.tiny()
    messages = [Message(role="user", content="How many?")]
    with kit.serving(loaded) as (url, _):
        started = time.monotonic()
        timing = probe.ask(probe.Target(url, kit.MODEL, None, 20), messages)
        took = time.monotonic() - started
        ids = loaded.tokenizer.prompt_ids(messages)
        wanted = generate(loaded.model, loaded.tokenizer, [ids], Sampling(max_new_tokens=20))[0].text
        assert (timing.text, timing.completion_tokens, timing.prompt_tokens) == (wanted, 20, len(ids))
        assert 0 < timing.first_token_s < timing.seconds <= took
        with pytest.raises(TunewrightError, match="404"):
            probe.ask(probe.Target(url, "other", None, 20), messages)


def test_a_prompt_is_cut_from_the_left_only_when_it_does_not_fit():
    tokenizer = kit.tiny().tokenizer
    short = (Message(role="system", content="S"), Message(role="user", content="tail"))
    assert probe.fitting(short, tokenizer, 400) == short
    long = (Message(role="system", content="S"), Message(role="user", content="中" * 300 + "tail"))
    (cut,) = probe.fitting(long, tokenizer, 400)
    assert cut.content.endswith("tail") and 200 < len(tokenizer.prompt_ids([cut])) <= 400
