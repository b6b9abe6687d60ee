"""Planted breaks: each is made really, at one link, and the verdict names that link and its own reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from chain_kit import Chain, link, reasons, reseal, serving
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tunewright.chain import rendering
from tunewright.chain.rendering import Rendering
from tunewright.chain.sources import Place, build
from tunewright.chain.stage import _prepare
from tunewright.chain.verdict import reach
from tunewright.chain.walk import Walk
from tunewright.core.chat import Message
from tunewright.models import tiny
from tunewright.models.load import for_inference
from tunewright.models.tokens import ChatTokenizer


def with_template(chain: Chain, source: str) -> ChatTokenizer:
    """The same vocabulary with another chat template."""
    known = chain.tokenizer
    file = str(chain.root / "base/tokenizer.json")
    return ChatTokenizer(Tokenizer.from_file(file), known.settings, source, sorted(known.end_ids))


class DoubleBegin(ChatTokenizer):
    """A template that writes the begin token and a tokenizer that adds it again: the classic."""

    def prompt_ids(self, messages: Sequence[Message], *, tools: Any = None) -> list[int]:
        return [self.bos_id, *super().prompt_ids(messages, tools=tools)]


# Between the merged model and the server


def test_a_swapped_adapter(twice: Chain) -> None:
    first = twice.workspace.finished("train")[0]
    with serving(twice.loaded(first), artifact="runs/bank/train/0001", variant="tuned") as url:
        found = twice.run(url)
    assert reasons(found) == {
        "server": "it answers differently from merged: 12 of 12 rows; "
        "it says that it serves runs/bank/train/0001, not runs/bank/train/0002"
    }
    assert link(found, "server")["examples"][0] | {"id": ""} == {"id": "", "expected": "card", "answer": "fee"}
    assert link(found, "server")["difference"]["difference"] == 1.0, "the swapped one happens to be right"


def test_a_swapped_adapter_behind_a_server_that_says_nothing(twice: Chain) -> None:
    first = twice.workspace.finished("train")[0]
    with serving(twice.loaded(first)) as url:
        found = twice.run(url)
    assert reasons(found)["server"].endswith(
        "its prompts are as long as in training, so look at the weights that it serves"
    )


def test_another_template(chain: Chain) -> None:
    longer = chain.tokenizer.template.source.replace("{{ bos_token }}", "{{ bos_token }}Be brief. ")
    with serving(chain.loaded(tokenizer=with_template(chain, longer))) as url:
        found = chain.run(url)
    assert list(reasons(found)) == ["server"]
    assert "another length than in training in all rows (+10 tokens): another chat template" in reasons(found)["server"]


def test_another_template_of_the_same_length(chain: Chain) -> None:
    """Only the server itself can tell: its own hash, or at least that the weights are not all there is to look at."""
    other = with_template(chain, chain.tokenizer.template.source.replace("assistant", "assistent"))
    trained = rendering.of_tokenizer(chain.tokenizer, ())
    told = rendering.of_metadata({"chat_template_sha256": other.template.sha256})
    assert told == Rendering(other.template.sha256)
    (fault,) = rendering.faults(trained, told)
    assert fault.startswith(f"renders with another chat template ({other.template.sha256[:12]}, trained was ")


def test_two_begin_tokens(chain: Chain) -> None:
    known = chain.tokenizer
    file = str(chain.root / "base/tokenizer.json")
    double = DoubleBegin(Tokenizer.from_file(file), known.settings, known.template.source, sorted(known.end_ids))
    with serving(chain.loaded(tokenizer=double)) as url:
        found = chain.run(url)
    assert list(reasons(found)) == ["server"]
    assert (
        "it has 2 BOS tokens in its prompt, training had 1 (the reference, asked so, gives 12 of its 12 answers)"
        in (reasons(found)["server"])
    )


def test_no_begin_token(chain: Chain) -> None:
    with serving(chain.loaded(tokenizer=with_template(chain, tiny.TEMPLATE))) as url:
        found = chain.run(url)
    assert "it has no BOS tokens in its prompt, training had 1" in reasons(found)["server"]


def test_a_missing_stop_token(chain: Chain) -> None:
    deaf = chain.tokenizer
    deaf.end_ids = frozenset({0})
    with serving(chain.loaded(tokenizer=deaf)) as url:
        found = chain.run(url)
    assert reasons(found) == {
        "server": "it answers differently from merged: 12 of 12 rows; "
        "12 answers go on where they should end: it does not stop at <|im_end|>"
    }
    assert link(found, "server")["answers"]["go_on_behind_the_end"] == 12


def test_what_our_own_server_renders_is_known_without_its_answers(chain: Chain) -> None:
    prompts = [chain.tokenizer.prompt_ids([Message(role="user", content="a")])]
    trained = rendering.of_tokenizer(chain.tokenizer, prompts)
    deaf = chain.tokenizer
    deaf.end_ids = frozenset({0})
    used = rendering.of_tokenizer(deaf, [[deaf.bos_id, *prompts[0]]])
    assert rendering.faults(trained, used) == [
        "has 2 BOS tokens in its prompt, training had 1",
        "does not stop at <|im_end|>, which training put behind every answer",
    ]


# Between adapter and merged model


def test_one_wrong_weight_in_the_merge(chain: Chain) -> None:
    place = Place(chain.workspace, chain.project, chain.newest("data"), chain.newest("train"), None)

    def spoiled() -> Any:
        model = place.open_tuned(merge=True)
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.weight[3, 5] += 0.5
        return model

    prepared = _prepare(place, None)
    steps = [step for step in build(place, door=None) if step.name in ("base", "adapter", "merged")]
    steps[2].link._load = lambda: for_inference(spoiled())  # type: ignore[attr-defined]
    verdict = reach(Walk(prepared.task).run(steps))
    ((name, reason),) = verdict.broken
    assert name == "merged"
    assert reason.startswith("its logits differ from those of adapter by 0.") and "the bound is 0.001" in reason


def test_one_wrong_weight_in_the_stored_merge(chain: Chain) -> None:
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    chain.quantize("bf16")
    path = chain.newest("quantize").path / "bf16/model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.up_proj.weight"][2, 7] += 0.01
    save_file(weights, path, metadata={"format": "pt"})
    reseal(chain.newest("quantize"))
    with serving(chain.loaded()) as url:
        found = chain.run(url)
    (reason,) = reasons(found).values()
    assert list(reasons(found)) == ["bf16"]
    assert reason.startswith(
        "its stored weights are not those of merged: model.layers.0.mlp.up_proj.weight differs in 1 places by up to 0.0"
    )
    assert link(found, "bf16")["weights"]["places"] == 1


def test_an_adapter_without_effect(chain: Chain) -> None:
    chain.train("fee", steps=0)
    with serving(chain.loaded()) as url:
        found = chain.run(url)
    assert reasons(found) == {"adapter": "it changes nothing: every logit is that of base"}


def test_a_template_that_was_edited_after_training(chain: Chain) -> None:
    path = chain.root / "base/tokenizer_config.json"
    path.write_text(path.read_text("utf-8").replace("<|im_end|>\\n", "<|im_end|> "), "utf-8")
    found = chain.run()
    assert list(reasons(found)) == ["adapter"]
    assert "the chat template differs from the one this model was trained with" in reasons(found)["adapter"]
    assert [link(found, name)["status"] for name in ("merged", "server")] == ["not asked"] * 2


# Variants


def test_variants_of_another_training_by_their_lineage(chain: Chain) -> None:
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    chain.quantize("bf16", "gguf-q8_0")
    chain.train("card", steps=8)
    with serving(chain.loaded()) as url:
        found = chain.run(url)
    said = "it was made from another training: runs/bank/train/0001, not runs/bank/train/0002"
    assert reasons(found) == {"bf16": said, "gguf-q8_0": said}


def test_a_variant_of_another_training_under_a_right_lineage(twice: Chain) -> None:
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    first = twice.workspace.finished("train")[0]
    twice.quantize("bf16", weights_of=first)
    with serving(twice.loaded()) as url:
        found = twice.run(url)
    reason = reasons(found)["bf16"]
    assert "its stored weights are not those of merged" in reason
    assert "its answers have nothing in common with those of merged: 0 of 12 are the same" in reason


def test_a_quantized_variant_of_another_training_in_llama_cpp(twice: Chain) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    first = twice.workspace.finished("train")[0]
    twice.quantize("gguf-q8_0", weights_of=first)
    with serving(twice.loaded()) as url:
        found = twice.run(url)
    assert "its answers have nothing in common with those of merged" in reasons(found)["gguf-q8_0"]


def test_a_variant_that_loses_more_than_it_may_is_named_and_a_refused_one_breaks_nothing(twice: Chain) -> None:
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    first = twice.workspace.finished("train")[0]
    rows = twice.newest("data").path / "test.jsonl"
    rows.write_text(rows.read_text("utf-8").replace('"fee"', '"card"'), "utf-8")
    reseal(twice.newest("data"))
    twice.quantize("bf16", weights_of=first, accepted=False)
    with serving(twice.loaded()) as url:
        found = twice.run(url)
    assert found["verdict"]["holds"]
    ((named,),) = [found["verdict"]["named"]]
    assert named["link"] == "bf16"
    assert "it loses at least 1.000 of exact, its max_loss is 0.05" in named["reason"]


def test_a_changed_file_of_a_variant(chain: Chain) -> None:
    pytest.importorskip("gguf", reason="the quantize extra is not installed")
    chain.quantize("bf16")
    path = chain.newest("quantize").path / "bf16/config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))), "utf-8")
    with serving(chain.loaded()) as url:
        found = chain.run(url)
    assert reasons(found) == {"bf16": "this file was changed after its stage sealed it"}
