"""Whether the installed peft and transformers compute adapters rightly together: a few seconds on a tiny model.

`python -m tunewright.models.adapters_proof` prints the findings as JSON; the doctor calls it in a process of its own,
so that it loads no torch itself and a crash of the libraries is a finding. The whole contract, over every method and
option, is tests/contracts/test_methods.py.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from tunewright.models import adapters, adapters_prefix, tiny
from tunewright.models.generate import Request, RunningBatch, Sampling
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

KINDS = ("prefix", "lora", "ia3")
_TOLERANCE = 1e-5
_IDS = [257, *range(60, 84), 258]
_NEW = 6


def findings() -> dict[str, Any]:
    """{kind: what is wrong with it, in words; empty when nothing is}, and under `stock_prefix_generate` what is wrong
    with peft's own generate() for a prefix, which tunewright does not use."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        base.mkdir()
        tiny.write(base)
        found: dict[str, Any] = {kind: _faults(kind, base, Path(place) / kind) for kind in KINDS}
        found["stock_prefix_generate"] = _stock_generate(base, Path(place) / "prefix")
    return found


def _faults(kind: str, base: Path, folder: Path) -> list[str]:
    """kind: one of KINDS. Any error is a fault: this runs what the libraries promise."""
    try:
        torch.manual_seed(7)
        made = _BUILD[kind](_plain(base)).eval()
        made.save_pretrained(str(folder))
        return _compare(made, base, folder)
    except Exception as error:
        return [_named(error)]


def _compare(made: Any, base: Path, folder: Path) -> list[str]:
    expected, faults = _logits(made, _IDS), []
    opened = adapters.adapted(_plain(base), folder, merge=False)
    stock = PeftModel.from_pretrained(_plain(base), str(folder)).eval()
    if _differ(expected, _logits(opened, _IDS)) or _differ(expected, _logits(stock, _IDS)):
        faults.append("a saved adapter computes something else when it is opened")
    if not _differ(expected, _logits(_plain(base), _IDS)):
        faults.append("the adapter changes nothing")
    if adapters.merges(folder) and _differ(expected, _logits(stock.merge_and_unload(), _IDS)):
        faults.append("the merged adapter is another model")
    if _generation_differs(opened, ChatTokenizer.load(base)):
        faults.append("generating step by step is not the forward pass")
    if _checkpointing_differs(made):
        faults.append("gradient checkpointing changes the gradients")
    return faults


def _prefix(model: Any) -> Any:
    return adapters_prefix.adapt(model, [257, 70, 80, 90, 100])


def _lora(model: Any) -> Any:
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, settings)


def _ia3(model: Any) -> Any:
    names = ["k_proj", "v_proj", "down_proj"]
    settings = IA3Config(
        target_modules=names, feedforward_modules=names[2:], init_ia3_weights=False, task_type="CAUSAL_LM"
    )
    return get_peft_model(model, settings)


_BUILD: dict[str, Callable[[Any], Any]] = {"prefix": _prefix, "lora": _lora, "ia3": _ia3}


def _plain(base: Path) -> Any:
    return load_model(base, dtype=torch.float32).to("cpu")


@torch.inference_mode()
def _logits(model: Any, ids: Sequence[int]) -> Tensor:
    found: Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0]
    return found


def _differ(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > _TOLERANCE)


class _Recording(RunningBatch):
    """Keeps the logits that each token was chosen from, by request."""

    def __init__(self, model: Any, tokenizer: ChatTokenizer) -> None:
        super().__init__(model, tokenizer)
        self.seen: dict[int, list[Tensor]] = defaultdict(list)

    def _choose(self, requests: Sequence[Request], logits: Tensor) -> Tensor:
        for request, row in zip(requests, logits, strict=True):
            self.seen[id(request)].append(row)
        return super()._choose(requests, logits)


def _generation_differs(model: Any, tokenizer: ChatTokenizer) -> bool:
    """Two rows of different length against whole forward passes over what they became."""
    requests = [Request(ids, Sampling(max_new_tokens=_NEW, ignore_end=True)) for ids in (_IDS, _IDS[:9])]
    batch = _Recording(model, tokenizer)
    batch.add(requests)
    while batch.rows:
        batch.step()
    return any(_steps_differ(model, request, torch.stack(batch.seen[id(request)])) for request in requests)


def _steps_differ(model: Any, request: Request, steps: Tensor) -> bool:
    """steps: [_NEW, V], the logits that its tokens were chosen from."""
    whole = _logits(model, [*request.prompt_ids, *request.output_ids[:-1]])
    return _differ(steps, whole[len(request.prompt_ids) - 1 :])


def _checkpointing_differs(model: Any) -> bool:
    """Leaves the model in training mode."""
    plain = _gradients(model)
    model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    checkpointed = _gradients(model)
    return any(
        not torch.allclose(checkpointed[name], gradient, rtol=1e-4, atol=1e-7) for name, gradient in plain.items()
    )


def _gradients(model: Any) -> dict[str, Tensor]:
    model.train().zero_grad()
    model(input_ids=torch.tensor([_IDS])).logits.log_softmax(-1)[..., 3].sum().backward()
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: torch.zeros(()) if gradient is None else gradient.clone() for name, gradient in trained.items()}


def _stock_generate(base: Path, folder: Path) -> str:
    """What is wrong with peft's generate() against whole forward passes of the same stock model; empty: nothing."""
    try:
        stock = PeftModel.from_pretrained(_plain(base), str(folder)).eval()
        made = stock.generate(
            input_ids=torch.tensor([_IDS]),
            max_new_tokens=_NEW,
            do_sample=False,
            eos_token_id=-1,
            output_logits=True,
            return_dict_in_generate=True,
        )
    except Exception as error:
        return _named(error)
    steps, ids = torch.cat(made.logits), made.sequences[0].tolist()
    behind = slice(len(_IDS) - 1, -1)
    if not _differ(steps, _logits(stock, ids)[behind]):
        return ""
    return "it ignores the prefix" if not _differ(steps, _logits(_plain(base), ids)[behind]) else "it is another model"


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


if __name__ == "__main__":
    print(json.dumps(findings()))  # noqa: T201 (its result, for the process that started it)
