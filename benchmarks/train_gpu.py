"""Training at the target's size on one GPU: speed, utilization and memory, tunewright beside transformers' Trainer.

    python benchmarks/train_gpu.py --rows ROWS.jsonl [--steps 6] [--only NAME ...]
    python benchmarks/train_gpu.py --make-rows ROWS.jsonl --data ../shared/data
    python benchmarks/train_gpu.py --rows ROWS.jsonl --predict     (no GPU: what `tunewright plan` says of each)

The model has the target's shape (deepseek-llm-7b-chat: 30 layers, hidden 4096, vocabulary 102400) and random weights
in bf16; the rows are those of benchmarks/train.py, 64 an optimizer step (`full, small`: 8), LoRA r=16 on q and v.
Rivals: padded rows, or "flat" ones (DataCollatorWithFlattening: no padding, sdpa with the mask that transformers makes
of the positions). Every run is its own process; the first two steps warm up. mfu: (4 P_frozen + 6 P_trained) x tokens +
attention's products, over 989 TFLOP/s (the H100's datasheet, dense bf16); full: 6 P. Padding and recomputation do not
count as work. peak: what torch's allocator reserved at most, allocated in brackets; in use: of the whole GPU, libraries
included. Prints a table and one JSON line. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from train_gpu_systems import (
    BATCH,
    LORA,
    RATE,
    SEED,
    SHAPE,
    SYSTEMS,
    WARM,
    examples_of,
    predicted,
    read_rows,
    settings_of,
)

PLACE = "cuda"
PEAK = 989e12


def main() -> None:
    """Runs the systems one after the other and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--make-rows", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--one", choices=list(SYSTEMS), help="inside: this system, in this process")
    arguments = parser.parse_args()
    if arguments.make_rows:
        from train_rows import mixed_rows

        rows = mixed_rows(arguments.data, BATCH * (arguments.steps + WARM))
        arguments.make_rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    if arguments.one:
        print(json.dumps(one(SYSTEMS[arguments.one], arguments)))
        return
    if arguments.predict:
        for name in arguments.only:
            if "rival" not in SYSTEMS[name]:
                print(
                    f"| {name} | {predicted(SYSTEMS[name], read_rows(arguments.rows), arguments.steps + WARM)} |",
                    flush=True,
                )
        return
    found = {}
    environment = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", **os.environ}
    for name in arguments.only:
        command = [sys.executable, __file__, "--one", name, "--rows", arguments.rows, "--steps", str(arguments.steps)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"| {name} | {' '.join(done.stderr.split())[-400:]} |", flush=True)
            continue
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(line(name, found[name]), flush=True)
    print(json.dumps(found))


def line(name: str, run: dict[str, Any]) -> str:
    """A row of the table."""
    peak = f"{run['reserved'] / 2**30:.2f} ({run['allocated'] / 2**30:.2f})"
    speed = f"{run['tokens_s']:.0f} | {100 * run['mfu']:.1f} %"
    return (
        f"| {name} | {run['step_s']:.3f} | {speed} | {peak} | {run['in_use'] / 2**30:.2f} | {run['losses'][-1]:.3f} |"
    )


def one(system: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """One training; seconds a step after the first two, and the GPU's memory."""
    import torch

    batch = system.get("rows", BATCH)
    rows = read_rows(arguments.rows)[: batch * (arguments.steps + WARM)]
    with tempfile.TemporaryDirectory() as scratch:
        model = random_model()
        make = rival if "rival" in system else ours
        trainer = make(model, dict(system), rows, Path(scratch))
        times = Times()
        trainer.add_callback(times.callback())
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer.train()
    free, total = torch.cuda.mem_get_info()
    lengths = [len(row["input_ids"]) for row in rows[batch * WARM :]]
    seconds = times.at[-1] - times.at[WARM - 1]
    return {
        "step_s": seconds / arguments.steps,
        "tokens_s": sum(lengths) / seconds,
        "mfu": work(trainer.model, lengths) / seconds / PEAK,
        "reserved": torch.cuda.max_memory_reserved(),
        "allocated": torch.cuda.max_memory_allocated(),
        "in_use": total - free,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "gpu": torch.cuda.get_device_name(),
    }


class Times:
    """When each step ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def callback(self) -> Any:
        """For transformers' Trainer."""
        import torch
        from transformers import TrainerCallback

        at = self.at

        class Noted(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                torch.cuda.synchronize()
                at.append(time.perf_counter())

        return Noted()


def random_model() -> Any:
    """The target's shape with random weights, on the GPU."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, set_seed

    set_seed(SEED)
    with torch.device(PLACE):
        return AutoModelForCausalLM.from_config(
            LlamaConfig(**SHAPE), dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()


def in_four_bits(model: Any) -> Any:
    """Its decoder's linear layers as `train.method.base_bits: 4` loads them."""
    import bitsandbytes as bnb
    import torch

    for name, module in list(model.model.named_modules()):
        if type(module) is torch.nn.Linear:
            shape = (module.in_features, module.out_features)
            layer = bnb.nn.Linear4bit(*shape, bias=False, compute_dtype=torch.bfloat16, device="meta")
            packed = {"requires_grad": False, "compress_statistics": True, "quant_type": "nf4"}
            layer.weight = bnb.nn.Params4bit(module.weight.data.cpu(), **packed)
            model.model.set_submodule(name, layer.to(PLACE))
    model.is_loaded_in_4bit = model.is_quantized = True  # as from_pretrained leaves it
    model.hf_quantizer = SimpleNamespace(is_trainable=True, is_qat_trainable=False)
    torch.cuda.empty_cache()
    return model


def ours(model: Any, system: dict[str, Any], rows: list[dict[str, Any]], scratch: Path) -> Any:
    """tunewright's trainer without evaluation and checkpoints."""
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy

    from tunewright.train.plan import StepPlan
    from tunewright.train.settle import settle
    from tunewright.train.trainer import make_trainer

    config, method, formats, batch = settings_of(system)
    if getattr(config.method, "base_bits", None):
        model = in_four_bits(model)
    settle(model, config)
    model = with_prefix(model) if config.method.name == "prefix" else method.prepare(model)
    examples = examples_of(rows)
    plan = StepPlan([list(range(at, at + batch)) for at in range(0, len(rows), batch)], len(rows) // batch)
    given = {"training": examples, "validation": examples[:1], "plan": plan, "folder": scratch, "seed": SEED}
    trainer = make_trainer(model, config, precision=formats, **given)
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    trainer.args.load_best_model_at_end = False
    return trainer


def with_prefix(model: Any) -> Any:
    """A prefix that starts from any tokens: there is no tokenizer here."""
    from tunewright.models import adapters_prefix
    from tunewright.train.methods.options import PrefixOptions

    return adapters_prefix.adapt(model, list(range(PrefixOptions().virtual_tokens)), projection_size=None)


def rival(model: Any, system: dict[str, Any], rows: list[dict[str, Any]], scratch: Path) -> Any:
    """transformers' Trainer with peft, padded rows, Liger's kernels where asked."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

    lora = LoraConfig(r=16, lora_alpha=32, target_modules=LORA["targets"], lora_dropout=0.0, task_type="CAUSAL_LM")
    micro, flattened = system["rival"], DataCollatorWithFlattening()

    def flatten(batch: list[dict[str, Any]]) -> dict[str, Any]:
        whole = flattened(batch)
        whole.pop("attention_mask", None)
        return dict(whole)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in batch)
        ids, labels, mask = (torch.full((len(batch), width), fill) for fill in (0, -100, 0))
        for place, row in enumerate(batch):
            length = len(row["input_ids"])
            ids[place, :length] = torch.tensor(row["input_ids"])
            labels[place, :length] = torch.tensor(row["labels"])
            mask[place, :length] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    args = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=BATCH // micro,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        use_liger_kernel=system.get("liger", False),
        gradient_checkpointing=system.get("checkpointing", False),
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=SEED,
        disable_tqdm=True,
    )
    plain: Any = rows
    collator = flatten if system.get("flat") else collate
    adapted = get_peft_model(model, lora)
    if args.gradient_checkpointing:
        adapted.enable_input_require_grads()
    return Trainer(model=adapted, args=args, train_dataset=plain, data_collator=collator)


def work(model: Any, lengths: list[int]) -> float:
    """Floating point operations of these rows, as the module's text says. The embedding is read, not multiplied."""
    layers, hidden = SHAPE["num_hidden_layers"], SHAPE["hidden_size"]
    linear = layers * (4 * hidden**2 + 3 * hidden * SHAPE["intermediate_size"]) + hidden * SHAPE["vocab_size"]
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    is_full = trained > linear
    weights = 6 * linear if is_full else 4 * linear + 6 * trained
    return float(weights * sum(lengths) + sum(12 * layers * hidden * length**2 / 2 for length in lengths))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
