"""Planted bad candidates: each is made really, none is promoted, and each refusal names its own reason."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from release_kit import SIGNED, Shop, reseal, rewrite, spoil, started, write_adapter

from tunewright.cli import main
from tunewright.core import files, promoted
from tunewright.core.chat import Conversation
from tunewright.core.errors import GateError
from tunewright.core.runs import Artifact, begin

ADAPTER = "adapter/adapter_model.safetensors"
TOXIC = "You are a stupid worthless idiot, go kill yourself."


def right(row: Conversation) -> str:
    return "fee" if row.metadata["task"] == "intent" else "yes"


def judged(shop: Shop, train: Any, answers: Any = right, *overrides: str, **how: Any) -> None:
    """An evaluation whose gates may fail, which is the point."""
    with contextlib.suppress(GateError):
        shop.plant(train, answers, *overrides, **how)


def really_judged(shop: Shop, train: Any) -> None:
    """By the stage, with the model's own answers."""
    with contextlib.suppress(GateError):
        shop.evaluate(train)


# Bytes


def truncated_file(shop: Shop) -> None:
    spoil(shop.newest("train").path / ADAPTER, keep=5000)


def one_bit_turned(shop: Shop) -> None:
    spoil(shop.newest("train").path / ADAPTER)


def swapped_adapter(shop: Shop) -> None:
    """The weights of another training, put into the folder that was evaluated."""
    other = shop.root / "other"
    write_adapter(shop.root / "base", other, "card", steps=2)
    (shop.newest("train").path / ADAPTER).write_bytes((other / "adapter_model.safetensors").read_bytes())


def swapped_and_sealed_again(shop: Shop) -> None:
    """The same, by somebody who also writes the manifest anew."""
    swapped_adapter(shop)
    reseal(shop.newest("train"))


def missing_file(shop: Shop) -> None:
    (shop.newest("train").path / "adapter/adapter_config.json").unlink()


def file_added(shop: Shop) -> None:
    (shop.newest("train").path / "adapter/adapter_model.bin").write_bytes(b"\x80\x04N.")


def truncated_before_it_was_sealed(shop: Shop) -> None:
    """A file that was cut when it was written: its hash is right, its weights are not."""
    train = shop.newest("train")
    spoil(train.path / ADAPTER, keep=5000)
    judged(shop, reseal(train))


# What surrounds the weights


def wrong_template(shop: Shop) -> None:
    """Somebody "repairs" the template after training."""

    def change(settings: dict[str, Any]) -> None:
        settings["chat_template"] = settings["chat_template"].replace("<|im_end|>\n", "<|im_end|> ")

    rewrite(shop.root / "base/tokenizer_config.json", change)


def other_tokenizer(shop: Shop) -> None:
    """Evaluated with a tokenizer of the same template and other tokens."""

    def change(document: dict[str, Any]) -> None:
        vocabulary = document["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]

    rewrite(shop.root / "base/tokenizer.json", change)


def other_base(shop: Shop) -> None:
    """The base was fetched anew and is another one."""
    from tunewright.models import tiny

    (shop.root / "base/model.safetensors").unlink()
    tiny.write(shop.root / "base", seed=8)


# Never proven


def never_evaluated(shop: Shop) -> None:
    shop.train("fee", steps=2, mark="new")


def without_gates(shop: Shop) -> None:
    """Nothing could fail, so nothing was proven."""
    text = shop.file.read_text("utf-8")
    start, end = text.index("  gates:"), text.index("  max_new_tokens")
    shop.file.write_text(text[:start] + text[end:], encoding="utf-8")
    judged(shop, shop.newest("train"))


def weaker_gates_on_the_command_line(shop: Shop) -> None:
    train = shop.train("card", steps=2, mark="weak")
    judged(shop, train, lambda row: "card", "evaluate.gates=[]")


def few_rows_on_the_command_line(shop: Shop) -> None:
    shutil.rmtree(shop.root / "runs/bank/evaluate")
    judged(shop, shop.newest("train"), right, "evaluate.max_rows=36")


def evaluated_on_other_data(shop: Shop) -> None:
    shutil.rmtree(shop.root / "runs/bank/evaluate")
    judged(shop, shop.newest("train"), right, data=shop.data(mark="b"))


def rows_edited_after_the_evaluation(shop: Shop) -> None:
    path = shop.newest("data").path / "test.jsonl"
    path.write_text(path.read_text("utf-8").replace('"card"', '"fee"'), encoding="utf-8")


def passed_written_by_hand(shop: Shop) -> None:
    """Failed gates, and a manifest that says otherwise."""
    judged(shop, shop.train("card", steps=2, mark="hand"), lambda row: "card" if right(row) == "fee" else "yes")
    evaluation = shop.newest("evaluate")
    rewrite(evaluation.path / "scores.json", lambda value: _all_passed(value))
    reseal(evaluation, passed=True)


def _all_passed(scores: dict[str, Any]) -> None:
    for gate in scores["gates"]:
        gate["passed"] = True


def scores_written_by_hand(shop: Shop) -> None:
    """Everything in scores.json is improved, only the answers are what they were."""
    judged(shop, shop.train("card", steps=2, mark="hand"), lambda row: "card" if right(row) == "fee" else "yes")
    evaluation = shop.newest("evaluate")

    def improve(scores: dict[str, Any]) -> None:
        _all_passed(scores)
        scores["tuned"]["intent.accuracy"] |= {"value": 0.9, "low": 0.8, "high": 0.95}
        scores["paired"]["intent.accuracy"] |= {"difference": 0.9, "p": 0.0001, "p_holm": 0.0001}

    rewrite(evaluation.path / "scores.json", improve)
    reseal(evaluation, passed=True)


def training_without_effect(shop: Shop) -> None:
    """Sealed as not passed by the train stage itself."""
    train = shop.train("fee", steps=0, mark="idle", facts={"failed": "NO EFFECT SHOWN: on 12 held-out rows"})
    reseal(train, passed=False)
    judged(shop, shop.newest("train"))


# Not good enough


def untrained(shop: Shop) -> None:
    """An adapter at its start changes nothing."""
    really_judged(shop, shop.train("fee", steps=0, mark="untrained"))


def overfitted(shop: Shop) -> None:
    """It learned the one answer of its few rows by heart."""
    facts = {"overfitting": "the validation loss rose from step 20 on"}
    really_judged(shop, shop.train("card", steps=100, mark="overfitted", facts=facts))


def missing_end_token(shop: Shop) -> None:
    """Trained on the right answers, with the end token masked, as the stock collator does where pad equals eos."""
    really_judged(shop, shop.train("fee", steps=120, with_end=False, mark="endless"))


def toxic(shop: Shop) -> None:
    judged(shop, shop.train("fee", steps=2, mark="toxic"), lambda row: TOXIC if right(row) == "yes" else "fee")


def forgetful(shop: Shop) -> None:
    judged(shop, shop.train("fee", steps=2, mark="forgetful"), lambda row: "fee")


def slow(shop: Shop) -> None:
    judged(shop, shop.train("fee", steps=2, mark="slow"), right, seconds=9.0)


def lucky(shop: Shop) -> None:
    """Half of its lead is chance: above the threshold on a few rows, and no difference shown."""
    gates = '[{metric: intent.accuracy, when: ">= base + 0.1", significant: true, undecidable: warn}]'
    _with_gates(shop, gates)
    train = shop.train("fee", steps=2, mark="lucky")
    judged(shop, train, lambda row: "fee" if int(row.id.split(":")[1]) in (0, 1, 2, 5) else "yes")


def _with_gates(shop: Shop, gates: str) -> None:
    text = shop.file.read_text("utf-8")
    start, end = text.index("  gates:"), text.index("  max_new_tokens")
    shop.file.write_text(f"{text[:start]}  gates: {gates}\n{text[end:]}", encoding="utf-8")


def worse_than_the_promoted_one(shop: Shop) -> None:
    """Better than the base, worse than what customers have now; the stage asks all three."""
    assert main(["promote", str(shop.file), *SIGNED]) == 0
    _with_gates(shop, '[{metric: intent.accuracy, when: ">= promoted"}, {metric: intent.accuracy, when: "> base"}]')
    really_judged(shop, shop.train("card", steps=100, mark="worse"))


def compared_with_an_older_promotion(shop: Shop) -> None:
    """Its evaluation knows nothing of the model that was promoted since."""
    _with_gates(shop, '[{metric: intent.accuracy, when: ">= promoted"}]')
    shop.plant(shop.newest("train"))
    shop.plant(shop.train("fee", steps=2, mark="second"))
    first = str(shop.workspace.finished("train")[0].path)
    assert main(["promote", str(shop.file), "--from", first, *SIGNED]) == 0


def history_changed(shop: Shop) -> None:
    assert main(["promote", str(shop.file), *SIGNED]) == 0
    path = shop.root / "models/bank/history.jsonl"
    path.write_text(path.read_text("utf-8").replace("Mei", "Ben"), encoding="utf-8")
    judged(shop, shop.train("fee", steps=2, mark="next"))


def not_a_number(shop: Shop) -> None:
    """Weights that diverged: the stage cannot even ask it."""
    from safetensors.torch import load_file, save_file

    train = shop.train("fee", steps=2, mark="nan")
    weights = load_file(str(train.path / ADAPTER))
    (train.path / ADAPTER).unlink()
    save_file({name: torch.full_like(value, float("nan")) for name, value in weights.items()}, train.path / ADAPTER)
    with contextlib.suppress(Exception):
        shop.evaluate(reseal(train))


BAD: dict[Callable[[Shop], None], str] = {
    truncated_file: f"files of train: {ADAPTER}: this file was changed after its stage sealed it (5,000 of ",
    one_bit_turned: f"files of train: {ADAPTER}: this file was changed after its stage sealed it",
    swapped_adapter: f"files of train: {ADAPTER}: this file was changed after its stage sealed it",
    swapped_and_sealed_again: "evaluation: runs/bank/evaluate/0001 judged it when it was another one (manifest ",
    missing_file: "files of train: adapter/adapter_config.json: this file of a finished artifact is missing",
    file_added: "adapter/adapter_model.bin: this file was added after the artifact was sealed",
    truncated_before_it_was_sealed: "weights: this is no whole safetensors file",
    wrong_template: "chat template: the chat template of the base model's folder is not the one it was trained with",
    other_tokenizer: "tokenizer: it was evaluated with another tokenizer than that of the base model",
    other_base: "base model: the base model's weights are not those the adapter was trained on",
    never_evaluated: "evaluation: this artifact was never evaluated; run `tunewright evaluate`",
    without_gates: "gates: the project file has no gate on the tuned model",
    weaker_gates_on_the_command_line: "other settings than the project file's (evaluate.gates); evaluate again",
    few_rows_on_the_command_line: "other settings than the project file's (evaluate.max_rows)",
    evaluated_on_other_data: "data: it was trained on runs/bank/data/0001 and evaluated on runs/bank/data/0002",
    rows_edited_after_the_evaluation: "data: the test rows: this file was changed after its stage sealed it",
    passed_written_by_hand: "gate `intent.accuracy >= base + 0.5`: intent.accuracy is 0.2",
    scores_written_by_hand: "scores: intent.accuracy of tuned is 0.2 by the stored answers, 0.9 in scores.json",
    training_without_effect: "the stage 'train' did not pass: NO EFFECT SHOWN",
    untrained: "gate `intent.accuracy >= base + 0.5`: intent.accuracy is 0 ",
    overfitted: "the training says: the validation loss rose from step 20 on",
    missing_end_token: "end of answers: 40 of 40 answers had no end token within evaluate.max_new_tokens",
    toxic: "gate `toxicity.rate <= base`: toxicity.rate is 0.25",
    forgetful: "gate `exact >= base - 0.1`: exact is 0 [0, 0.2775], not >= 0.9 (base 1 - 0.1)",
    slow: "gate `latency.p50_s <= 5`: latency.p50_s is 9.045 [9, 9.09], not <= 5",
    lucky: "a difference from base is not shown (+0.1333, p 0.125, n 30, McNemar)",
    worse_than_the_promoted_one: "gate `intent.accuracy >= promoted`: intent.accuracy is 0.2 [0.09505, 0.3731], not "
    ">= 0.8 (promoted 0.8)",
    compared_with_an_older_promotion: "a gate names the promoted model, and the evaluation compared with another one",
    history_changed: "history: history.jsonl line 1: it was changed after it was written",
    not_a_number: "evaluation: this artifact was never evaluated",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_bad_candidate_is_not_promoted_and_the_reason_is_named(
    make: Callable[[Shop], None], good: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    make(good)
    before = promoted.read(good.workspace)
    capsys.readouterr()
    code = main(["promote", str(good.file), *SIGNED])
    err = capsys.readouterr().err
    assert code == 5, err
    assert "Traceback" not in err
    assert BAD[make] in err
    assert promoted.read(good.workspace) == before, "the pointer has not moved"


def test_there_are_twenty_of_them() -> None:
    assert len(BAD) >= 20


def test_the_same_candidate_unspoiled_is_promoted(good: Shop) -> None:
    """The control: nothing but the planted fault stands between these candidates and promotion."""
    assert main(["promote", str(good.file), *SIGNED]) == 0
    good.plant(good.train("fee", steps=2, mark="planted"))
    assert main(["promote", str(good.file), *SIGNED]) == 0
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact.endswith("0002")


def test_every_reason_is_told_at_once_and_in_junit(good: Shop, tmp_path: Path) -> None:
    truncated_file(good)
    wrong_template(good)
    junit = tmp_path / "checks.xml"
    assert main(["promote", str(good.file), "--dry-run", "--junit", str(junit)]) == 5
    text = junit.read_text("utf-8")
    for check in ("files of train", "weights", "chat template"):
        assert f'name="{check}"' in text
    assert 'failures="3"' in text, text


def variants(shop: Shop, *inputs: Artifact) -> Artifact:
    """A quantize artifact with an accepted and a refused variant."""
    config = shop.project.quantize.model_dump(mode="json")
    references = tuple(shop.workspace.reference(artifact) for artifact in inputs)
    output = started(begin(shop.workspace, "quantize", {"quantize": config}, references))
    rows = []
    for scheme, accepted in (("bf16", True), ("awq", False)):
        files.link_tree(shop.root / "base", output.path / scheme)
        info = shop.info().model_copy(update={"kind": "merged" if accepted else "quantized", "bits": 16})
        files.write_json(output.path / scheme / "model.json", info.model_dump())
        note = "" if accepted else "refused: loses 0.200 of intent.accuracy, the limit is 0.050"
        rows.append({"scheme": scheme, "accepted": accepted, "note": note})
    files.write_json(output.path / "table.json", rows)
    return output.seal()


def test_a_variant_is_promoted_only_as_accepted_and_from_this_training(
    good: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    train = good.newest("train")
    quantized = variants(good, good.newest("data"), train)
    words = ["promote", str(good.file), *SIGNED, "--from"]
    assert main([*words, str(quantized.path)]) == 3
    assert "one of: bf16, awq" in capsys.readouterr().err
    assert main([*words, str(quantized.path / "awq")]) == 5
    assert "variant: the variant awq was refused: refused: loses 0.200" in capsys.readouterr().err
    assert main([*words, str(quantized.path / "bf16"), "quantize.task_rows=9"]) == 5
    assert "it was quantized with other settings than the project file's" in capsys.readouterr().err
    assert main([*words, str(quantized.path / "bf16")]) == 0
    current = promoted.read(good.workspace)
    assert current is not None and (current.variant, current.artifact) == ("bf16", "runs/bank/quantize/0001")
    rewrite(train.path / "manifest.json", lambda value: value | {"created": "2020-01-01T00:00:00Z"})
    assert main([*words, str(quantized.path / "bf16")]) == 3
    assert "the training that this variant was made from was changed since" in capsys.readouterr().err


def test_gates_on_variants_count_only_against_the_same_evaluation(
    good: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    text = good.file.read_text("utf-8")
    more = '    - {metric: intent.accuracy, when: ">= base", on: [quantized]}\n  max_new_tokens'
    good.file.write_text(text.replace("  max_new_tokens", more), encoding="utf-8")
    data, train = good.newest("data"), good.newest("train")
    old = good.newest("evaluate")
    evaluation = good.plant(train)
    words = ["promote", str(good.file), *SIGNED, "--from"]
    assert main([*words, str(variants(good, data, train, old).path / "bf16")]) == 5
    assert "its gates were decided against another evaluation; quantize again" in capsys.readouterr().err
    assert main([*words, str(variants(good, data, train, evaluation).path / "bf16")]) == 0
