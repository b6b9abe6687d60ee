"""A good chain: every link in order, its numbers, the sealed artifact, and a rerun that has nothing to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chain_kit import QUANTIZE, TRAIN, Chain, link, reseal, serving

from tunewright.chain import stage
from tunewright.chain.table import table
from tunewright.cli import main
from tunewright.core.errors import ResourceError
from tunewright.core.runs import Artifact


@pytest.fixture(scope="module")
def proven(good: Chain, tmp_path_factory: pytest.TempPathFactory) -> tuple[Chain, dict[str, Any]]:
    """With a stored 16-bit variant and one for llama.cpp, if that is installed; the project's own servers."""
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    chain = good.copy(tmp_path_factory.mktemp("holds") / "bank")
    chain.quantize("bf16", "gguf-q8_0")
    return chain, chain.run()


def test_every_link_is_asked_in_order_and_equal(proven: tuple[Chain, dict[str, Any]]) -> None:
    _, found = proven
    said = {entry["link"]: (entry["against"], entry["status"]) for entry in found["links"]}
    expected = {
        "base": (None, "start"),
        "adapter": ("base", "changed"),
        "merged": ("adapter", "equal"),
        "bf16": ("merged", "equal"),
        "gguf-q8_0": ("merged", "measured"),
        "server": ("merged", "equal"),
        "server (bf16)": ("bf16", "equal"),
    }
    if said["gguf-q8_0"][1] == "not asked":
        pytest.skip("llama.cpp is not installed")
    assert said == expected and list(said) == list(expected)
    assert found["verdict"]["holds"], found["verdict"]["sentence"]


def test_the_numbers_say_what_happened(proven: tuple[Chain, dict[str, Any]]) -> None:
    _, found = proven
    adapter, merged, stored, server = (link(found, name) for name in ("adapter", "merged", "bf16", "server"))
    assert adapter["logits"]["largest"] > 0.1, "training moved the logits"
    assert 0 < merged["logits"]["largest"] < 1e-4, "the merge sums in another order, and no more"
    assert merged["logits"]["bound"] == found["bounds"]["logits"] == pytest.approx(1e-3)
    assert 1e-5 < stored["logits"]["largest"] < 0.1, "rounding to 16 bits"
    assert stored["weights"] == {"tensors": 20, "worst": "", "places": 0, "largest": 0.0}
    assert server["logits"] is None, "no logits come over HTTP"
    assert (server["answers"]["same"], server["answers"]["rows"], found["rows"]) == (12, 12, 12)
    assert server["score"]["value"] == 1.0 and server["score"]["n"] == 12 and server["score"]["low"] < 0.8
    assert link(found, "base")["difference"]["difference"] == -1.0, "against merged, paired"
    assert server["difference"]["difference"] == 0.0


def test_the_rendering_of_training_and_server_is_stated(proven: tuple[Chain, dict[str, Any]]) -> None:
    chain, found = proven
    trained = found["rendering"]["training"]
    assert trained["chat_template_sha256"] == chain.tokenizer.template.sha256
    assert (trained["bos_tokens"], trained["stop_tokens"]) == (1, ["<|im_end|>"])
    assert link(found, "server")["rendering"]["bos_tokens"] == 1


def test_it_is_sealed_by_hash_and_not_done_twice(proven: tuple[Chain, dict[str, Any]]) -> None:
    chain, _ = proven
    artifact = chain.newest("chain")
    inputs = {reference.path: reference.sha256 for reference in artifact.manifest.inputs}
    assert inputs[TRAIN] == chain.newest("train").manifest_sha256
    assert inputs[QUANTIZE] == chain.newest("quantize").manifest_sha256
    chain.run()
    assert [found.path.name for found in chain.workspace.finished("chain")] == ["0001"]


def test_the_table_shows_every_link_bounds_and_verdict(proven: tuple[Chain, dict[str, Any]]) -> None:
    text = table(proven[1])
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:9]] == [
        "base",
        "adapter",
        "merged",
        "bf16",
        "gguf-q8_0",
        *["server"] * 2,
    ]
    assert "bounds: float32: logits may differ by 0.001" in text
    assert "1 begin tokens, answers end with <|im_end|>" in text
    assert lines[-1].startswith("the chain holds: adapter = merged = bf16 = server")


def test_a_running_server_is_asked_anew_each_time(chain: Chain) -> None:
    with serving(chain.loaded()) as url:
        first, second = chain.run(url), chain.run(f"{url}/v1/")
    assert link(first, "server")["status"] == link(second, "server")["status"] == "equal"
    settings = [found.manifest.config["server"]["url"] for found in chain.workspace.finished("chain")]
    assert settings[0] == url and len(set(settings)) == 1


def test_a_server_that_is_not_there_ends_it_before_any_model_is_opened(chain: Chain) -> None:
    with pytest.raises(ResourceError, match="cannot be reached"):
        chain.run("http://127.0.0.1:9")
    assert not chain.workspace.directories("chain")


def test_rows_that_cannot_be_compared_are_counted(chain: Chain) -> None:
    rows = chain.newest("data").path / "test.jsonl"
    lines = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    lines[0]["metadata"] = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
    lines[1]["conversation"][0]["content"] = "long " * 120
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    reseal(chain.newest("data"))
    with serving(chain.loaded()) as url:
        found = chain.run(url)
    assert found["rows"] == 10
    assert found["left_out"] == {"it has tools": 1, "its prompt is too long": 1}


def test_the_verb_prints_the_table_and_ends_with_the_gates_code(
    twice: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = twice.workspace.finished("train")
    with serving(twice.loaded(first)) as url:
        words = ["evaluate", str(twice.file), "--chain", "--server", url, "--from", str(other.path)]
        assert main([*words, "--json"]) == 5
        out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["verdict"]["broken"][0]["link"] == "server"
    assert document["artifact"] == "runs/bank/chain/0001"
    assert "the chain breaks at 'server': it answers differently from merged: 12 of 12 rows" in err
    assert not Artifact.open(twice.root / document["artifact"]).manifest.passed


def test_the_verb_refuses_a_server_without_the_chain(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(chain.file), "--server", "http://127.0.0.1:9"]) == 2
    assert "add --chain" in capsys.readouterr().err


def test_a_dry_run_lists_the_links(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(chain.file), "--chain", "--dry-run"]) == 0
    assert capsys.readouterr().out == "links: base -> adapter -> merged -> server\n"
    assert not chain.workspace.directories("chain")


def test_a_project_whose_chain_failed_fails_again_without_being_asked(chain: Chain) -> None:
    chain.train("fee", steps=0)
    first = chain.run()
    assert not first["verdict"]["holds"]
    assert chain.run() == first
    with pytest.raises(Exception, match="it changes nothing") as caught:
        stage.require(chain.newest("chain"), where="runs/bank/chain/0001")
    assert getattr(caught.value, "exit_code", 0) == 5
