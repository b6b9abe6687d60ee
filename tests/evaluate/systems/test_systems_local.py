"""Models in this process: batches say what single questions say, adapters beside the base say what merged ones say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from systems_kit import ASKING, Counted, local, prompts, row, varied

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.evaluate.systems import open as systems
from tunewright.evaluate.systems.engine import EngineModel
from tunewright.evaluate.systems.local import Identity
from tunewright.evaluate.systems.protocol import Asking, ChatModel
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize.engines import TransformersEngine

ROWS = [row(index, task="intent" if index % 5 == 0 else "answer") for index in range(12)]
F32 = torch.float32


def test_batches_answer_what_single_questions_are_answered(tiny: Path) -> None:
    system = local(tiny, Counted(tiny))
    asked = prompts(system, ROWS)
    assert len({len(prompt.ids) for prompt in asked}) > 3, "the lengths must differ"
    texts = {
        batch: [sample.prediction for sample in system.answer(asked, Asking(20, batch, ASKING.labels))]
        for batch in (1, 3, 8)
    }
    assert texts[1] == texts[3] == texts[8] and len(set(texts[1])) > 3
    apart = [system.answer([prompt], Asking(20, 8, ASKING.labels))[0].prediction for prompt in asked]
    assert apart == texts[1], "what else is asked changes nothing, the length of an answer included"


def test_logits_are_those_of_the_model(tiny: Path) -> None:
    system = local(tiny, Counted(tiny))
    ids = [prompt.ids for prompt in prompts(system, ROWS[:9])]
    found = system.next_logits(ids)
    model = varied(tiny)
    with torch.inference_mode():
        expected = np.stack([model(input_ids=torch.tensor([one])).logits[0, -1].numpy() for one in ids])
    assert found.dtype == np.float32 and found.shape == (9, 259)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert not np.allclose(found[0], found[1], atol=1e-2)


def test_another_engine_stands_behind_the_same_interface(tiny: Path, tmp_path: Path) -> None:
    """The engine of the quantize stage, opened by who may know it."""
    own = local(tiny, Counted(tiny))
    asked = prompts(own, ROWS)
    tokenizer = ChatTokenizer.load(tiny)
    opened = []

    def open_engine() -> TransformersEngine:
        opened.append(True)
        return TransformersEngine(varied(tiny), tokenizer, batch_size=4)

    from tunewright.evaluate.systems.cache import AnswerCache

    for _ in range(2):
        identity = Identity("q4", "quantized", "weights")
        other = EngineModel(identity, tokenizer, open_engine, max_length=512, cache=AnswerCache(tmp_path))
        said = [(sample.id, sample.prediction, sample.finish) for sample in other.answer(asked, ASKING)]
        assert said == [(sample.id, sample.prediction, sample.finish) for sample in own.answer(asked, ASKING)]
        assert isinstance(other, ChatModel) and not other.gives_logits and not other.chooses
        other.close()
    assert opened == [True], "the second time all was on disk"


@pytest.fixture(scope="module")
def train(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return _adapter(tiny, tmp_path_factory.mktemp("project"), seed=1)


def _adapter(tiny: Path, root: Path, *, seed: int) -> Artifact:
    """A sealed LoRA adapter with random weights."""
    from peft import LoraConfig, get_peft_model

    output = begin(Workspace(root, "demo"), "train", {"seed": seed}, ())
    assert isinstance(output, Output)
    torch.manual_seed(seed)
    settings = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(varied(tiny), settings).save_pretrained(str(output.path / "adapter"))
    info = ModelInfo(
        kind="adapter",
        base=str(tiny),
        base_revision="main",
        base_sha256=source.weights_sha256(tiny),
        method="lora",
        dtype="float32",
        bits=32,
        chat_template_sha256=ChatTokenizer.load(tiny).template.sha256,
        max_length=512,
    )
    files.write_json(output.path / "model.json", info.model_dump())
    return output.seal()


def test_an_adapter_beside_the_base_is_the_merged_one_and_not_the_base(tiny: Path, train: Artifact) -> None:
    config = ModelConfig(path=str(tiny), dtype="float32")
    base = systems.base(tiny, config, dtype=F32)
    merged = systems.tuned(train, config, tiny, dtype=F32)
    beside = systems.tuned(train, config, tiny, dtype=F32, merge=False, name="adapter")
    assert (base.kind, merged.kind, beside.kind, beside.name) == ("base", "merged", "adapter", "adapter")
    assert len({base.sha256, merged.sha256, beside.sha256}) == 3
    asked = prompts(base, ROWS)
    ids = [prompt.ids for prompt in asked]
    one, two, three = (system.next_logits(ids) for system in (base, merged, beside))
    np.testing.assert_allclose(two, three, atol=1e-4)
    assert not np.allclose(one, two, atol=1e-2)
    texts = [[s.prediction for s in system.answer(asked, ASKING)] for system in (merged, beside)]
    assert texts[0] == texts[1]


def test_hashes_follow_content(tiny: Path, train: Artifact, tmp_path: Path) -> None:
    import shutil

    config = ModelConfig(path=str(tiny), dtype="float32")
    first = systems.base(tiny, config, dtype=F32).sha256
    copied = tmp_path / "copy"
    shutil.copytree(tiny, copied)
    assert systems.base(copied, config, dtype=F32).sha256 == first, "the place does not matter"
    assert systems.base(tiny, config, dtype=torch.bfloat16).sha256 != first
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    settings["chat_template"] = settings["chat_template"].replace("assistant", "bot")
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    assert systems.base(copied, config, dtype=F32).sha256 != first, "another template asks another question"
    other = _adapter(tiny, tmp_path, seed=2)
    hashes = {systems.tuned(one, config, tiny, dtype=F32).sha256 for one in (train, other)}
    assert len(hashes) == 2


def test_a_trained_prefix_takes_its_positions(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 12}
    for changed, taken in (({}, 12), ({"peft_type": "LORA", "num_virtual_tokens": None}, 0)):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | changed))
        assert systems.virtual_tokens(tmp_path) == taken
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"no usable adapter_config\.json"):
        systems.virtual_tokens(tmp_path)
