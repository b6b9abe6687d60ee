"""What every training method promises (train/method.py), on the tiny Llama in float32 on the CPU.

A method that is added to the registry is tested here without a change; options beside the defaults are listed below.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tunewright.models import adapters
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.choice import choose
from tunewright.models.generate import Request, RunningBatch, Sampling, shared_prefix
from tunewright.models.load import for_inference, load_model
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example
from tunewright.train.method import Method
from tunewright.train.methods.options import METHODS

TOLERANCE = 1e-5
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS.entries),
    ("lora", {"targets": ["q_proj", "down_proj"], "rank": 3, "alpha": 5}),
    ("lora", {"variant": "rslora"}),
    ("lora", {"variant": "dora"}),
    ("lora", {"variant": "pissa", "rank": 4, "alpha": 6}),
    ("ia3", {"targets": ["q_proj", "up_proj"], "feedforward": ["up_proj"]}),
    ("prefix", {"virtual_tokens": 5, "projection": True, "projection_size": 16}),
    ("freeze", {"layers": 1, "norm": False, "head": True}),
]
"""lora drops nothing by default, so that its passes can be compared."""


def identify(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


@dataclass(frozen=True)
class Case:
    """A method after four optimizer steps. folder: what it saved; checkpoint: what Trainer would have saved."""

    method: Method
    trained: Any
    folder: Path
    checkpoint: Path


def build(case: tuple[str, dict[str, Any]]) -> Method:
    name, options = case
    found: Method = METHODS.target(name)(METHODS.options(name).model_validate({"name": name, **options}))
    return found


def rows() -> list[Example]:
    """Three rows behind one untrained start, and one that stands alone."""
    generator = torch.Generator().manual_seed(5)
    start = (257, 10, 20, 30, 40, 50, 60)
    found = []
    for number, length in enumerate((4, 11, 7)):
        ids = (*start, *torch.randint(0, 256, (length,), generator=generator).tolist(), 258)
        found.append(Example(ids, (*(IGNORED,) * (9 if number else 7), *ids[9 if number else 7 :]), str(number)))
    alone = (257, 5, 6, 7, 258)
    return [*found, Example(alone, (IGNORED, IGNORED, *alone[2:]), "alone")]


def train(model: Any, steps: int = 4) -> None:
    model.set_attn_implementation(ATTENTION)
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (packed_loss(model, rows()) / 20).backward()
        optimizer.step()
    model.eval()
    model.set_attn_implementation("sdpa")


@pytest.fixture(scope="module", params=OPTIONS, ids=identify)
def case(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(3)
    method = build(request.param)
    trained = method.prepare(load_model(tiny, dtype=torch.float32))
    train(trained)
    folder, checkpoint = (tmp_path_factory.mktemp("saved") / name for name in ("it", "checkpoint"))
    trained.save_pretrained(str(checkpoint), state_dict=trained.state_dict())
    method.save(trained, folder, base="some/base", revision="main", tokenizer_from=tiny)
    return Case(method, trained, folder, checkpoint)


@pytest.fixture(scope="module")
def base(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


@pytest.fixture(scope="module")
def prompts(tokenizer: ChatTokenizer) -> list[list[int]]:
    return [tokenizer.encode(f"the same first words: {word}") for word in ("x", "卡丢了怎么办", "what is the fee?")]


IDS = [257, *range(60, 90), 258]


@torch.inference_mode()
def logits(model: Any, ids: Sequence[int] = IDS) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0]
    return found


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


def reopened(case: Case, tiny: Path) -> Any:
    """The saved one, an adapter unmerged."""
    if case.method.kind == "full":
        return load_model(case.folder, dtype=torch.float32)
    return adapters.adapted(load_model(tiny, dtype=torch.float32), case.folder, merge=False)


@pytest.mark.parametrize("options", OPTIONS, ids=identify)
def test_it_starts_as_the_base_where_it_promises(options: tuple[str, dict[str, Any]], tiny: Path, base: Any) -> None:
    method = build(options)
    fresh = method.prepare(load_model(tiny, dtype=torch.float32)).eval()
    assert (distance(logits(fresh), logits(base)) <= TOLERANCE) is method.starts_as_base


def test_training_changes_the_answer(case: Case, base: Any) -> None:
    assert distance(logits(case.trained), logits(base)) > 1e-3


def test_reloaded_is_what_was_trained(case: Case, tiny: Path, base: Any) -> None:
    again = reopened(case, tiny)
    assert distance(logits(again), logits(case.trained)) <= TOLERANCE
    assert distance(logits(again), logits(base)) > 1e-3


def test_an_adapter_folder_is_standard_peft(case: Case, tiny: Path) -> None:
    """Stock PEFT on the untouched base, by whole forward passes: its generate() ignores a prefix on some versions."""
    if case.method.kind == "full":
        pytest.skip("whole weights")
    assert sorted(path.name for path in case.folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    settings = json.loads((case.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("some/base", "main")
    stock = PeftModel.from_pretrained(load_model(tiny, dtype=torch.float32), str(case.folder)).eval()
    assert distance(logits(stock), logits(case.trained)) <= TOLERANCE


def test_merged_is_the_adapter_and_what_cannot_merge_stays_beside(case: Case, tiny: Path, base: Any) -> None:
    if case.method.kind == "full":
        pytest.skip("whole weights")
    assert adapters.merges(case.folder) is case.method.merges
    opened = adapters.load_adapted(tiny, case.folder, dtype=torch.float32)
    assert isinstance(opened, PeftModel) is not case.method.merges
    assert distance(logits(opened), logits(case.trained)) <= TOLERANCE
    assert distance(logits(opened), logits(base)) > 1e-3


class Recording(RunningBatch):
    """Keeps the logits that each token was chosen from, by request."""

    def __init__(self, model: Any, tokenizer: ChatTokenizer) -> None:
        super().__init__(model, tokenizer)
        self.seen: dict[int, list[torch.Tensor]] = defaultdict(list)

    def _choose(self, requests: Sequence[Request], logits: torch.Tensor) -> torch.Tensor:
        for request, row in zip(requests, logits, strict=True):
            self.seen[id(request)].append(row)
        return super()._choose(requests, logits)


def test_generation_step_by_step_is_full_recomputation(
    case: Case, tiny: Path, tokenizer: ChatTokenizer, prompts: list[list[int]]
) -> None:
    """Rows of different length that join one step after the other, some behind a start that is computed once, one
    without it; the model prepacked as it is used. Whole forward passes have no cache, no padding and no batch."""
    model = for_inference(reopened(case, tiny))
    requests = [Request(prompt, Sampling(max_new_tokens=8, ignore_end=True)) for prompt in (*prompts, IDS[:9])]
    batch = Recording(model, tokenizer)
    batch.share_prefix(shared_prefix(prompts))
    batch.add(requests[:2])
    for request in requests[2:]:
        batch.step()
        batch.add([request])
    while batch.rows:
        batch.step()
    for request in requests:
        whole = logits(case.trained, [*request.prompt_ids, *request.output_ids[:-1]])
        steps = torch.stack(batch.seen[id(request)])
        assert len(request.output_ids) == 8
        assert distance(steps, whole[len(request.prompt_ids) - 1 :]) <= 10 * TOLERANCE


def test_constrained_choice_is_scoring_every_answer(
    case: Case, tiny: Path, tokenizer: ChatTokenizer, prompts: list[list[int]]
) -> None:
    answers = [(*tokenizer.encode(label), 258) for label in ("card", "fee", "feet", "银行")]

    def score(prompt: list[int], answer: tuple[int, ...]) -> float:
        steps = logits(case.trained, [*prompt, *answer]).log_softmax(-1)
        return sum(float(steps[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))

    expected = []
    for prompt in prompts:
        scores = [score(prompt, answer) for answer in answers]
        expected.append(scores.index(max(scores)))
    assert choose(reopened(case, tiny), tokenizer, prompts, answers) == expected


def prepared(case: Case, tiny: Path, *, checkpointing: bool = False) -> Any:
    """The trained weights in float64, on a base set up as the stage does it."""
    model = load_model(tiny, dtype=torch.float32)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    adapted = case.method.prepare(model)
    adapted.load_state_dict(case.trained.state_dict())
    return adapted.double().train()


def backward(model: Any, loss_of: Callable[[Any, list[Example]], torch.Tensor]) -> tuple[float, dict[str, Any]]:
    model.set_attn_implementation(ATTENTION if loss_of is packed_loss else "sdpa")
    model.zero_grad()
    loss = loss_of(model, rows())
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(first: tuple[float, dict[str, Any]], second: tuple[float, dict[str, Any]]) -> None:
    """The loss itself is summed in float32, as in training; gradients flow through float64."""
    assert first[0] == pytest.approx(second[0], rel=1e-6)
    assert first[1].keys() == second[1].keys()
    for name, gradient in first[1].items():
        room = 1e-7 * float(gradient.abs().max() + 1)
        assert torch.allclose(second[1][name], gradient, rtol=1e-4, atol=room), name
    assert all(float(gradient.abs().max()) > 0 for gradient in first[1].values())


def test_packed_rows_are_padded_rows_in_loss_and_gradients(case: Case, tiny: Path) -> None:
    model = prepared(case, tiny)
    assert_same(backward(model, padded_loss), backward(model, packed_loss))


@pytest.mark.parametrize("loss_of", [packed_loss, padded_loss], ids=["packed", "padded"])
def test_gradient_checkpointing_changes_nothing(case: Case, tiny: Path, loss_of: Any) -> None:
    plain = backward(prepared(case, tiny), loss_of)
    model = prepared(case, tiny, checkpointing=True)
    assert any(module.gradient_checkpointing for module in decoder_layers(model))
    assert_same(plain, backward(model, loss_of))


def test_a_checkpoint_goes_on_where_it_was(case: Case, tiny: Path) -> None:
    """As Trainer does it: an adapter is saved by the model, and put into a freshly prepared one."""
    if case.method.kind == "full":
        pytest.skip("Trainer keeps the state of a whole model itself")
    torch.manual_seed(99)
    again = case.method.prepare(load_model(tiny, dtype=torch.float32))
    again.load_adapter(str(case.checkpoint), again.active_adapters[0], is_trainable=True)
    assert distance(logits(again.eval()), logits(case.trained)) <= 1e-6
    grown = {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert grown == {name for name, parameter in case.trained.named_parameters() if parameter.requires_grad}
