"""One training of benchmarks/train.py in a process of its own: SYSTEM MICRO ROWS. Prints one JSON line.

The rivals are set up as their documentation says; none of tunewright's code runs in them but what finds the model.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

BATCH, RANK, ALPHA, RATE, SEED = 16, 16, 32, 1e-3, 7
TARGETS = ["q_proj", "v_proj"]


def main() -> None:
    """Trains and prints seconds (the loop alone), peak memory of the whole process, losses, utilization."""
    kind, micro, place = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    with tempfile.TemporaryDirectory() as scratch:
        if kind.startswith("ours"):
            seconds, losses = ours(rows, Path(scratch), share_prefix=kind == "ours")
        elif kind == "llamafactory":
            import train_llamafactory

            seconds, losses = train_llamafactory.train(rows, micro, Path(scratch))
        else:
            seconds, losses = rival(kind, rows, micro, Path(scratch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "losses": losses, "mfu": utilization(rows, seconds)}))


def ours(rows: list[dict[str, Any]], scratch: Path, *, share_prefix: bool) -> tuple[float, list[float]]:
    """tunewright's loop without evaluation and checkpoints."""
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy

    from tunewright.core.config import validate
    from tunewright.models import source
    from tunewright.models.config import ModelConfig
    from tunewright.models.tokens import IGNORED, Example
    from tunewright.train import heap, loop, precision
    from tunewright.train.config import METHODS, TrainConfig
    from tunewright.train.plan import StepPlan
    from tunewright.train.trainer import make_trainer

    wanted = {
        "method": {"name": "lora", "rank": RANK, "alpha": ALPHA, "targets": TARGETS, "dropout": 0.0},
        "learning_rate": RATE,
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "share_prefix": share_prefix,
        "micro_batch_tokens": 1024,
    }
    config = validate(TrainConfig, wanted, {(): 0}, "benchmark")
    method = METHODS.target(config.method.name)(config.method)
    formats = precision.choose("bfloat16", kind=method.kind)
    base = source.resolve(ModelConfig(), scratch)
    examples = [
        Example(tuple(row["input_ids"]), tuple(IGNORED if x == -100 else x for x in row["labels"]), str(number))
        for number, row in enumerate(rows)
    ]
    steps = [examples[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    most = config.micro_batch_tokens
    heap.keep_few_products(heap.products_kept(steps, max_tokens=most, share_prefix=share_prefix))
    model = loop.prepare(base, config, method, formats, seed=SEED, trust_remote_code=False)
    plan = StepPlan([list(range(at, at + BATCH)) for at in range(0, len(rows), BATCH)], len(rows) // BATCH)
    trainer = make_trainer(
        model,
        config,
        training=examples,
        validation=examples[:1],
        plan=plan,
        folder=scratch,
        seed=SEED,
        precision=formats,
    )
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    trainer.args.load_best_model_at_end = False
    return timed(trainer)


def common_arguments(scratch: Path, micro: int) -> dict[str, Any]:
    """What every rival is told, in the words of transformers' TrainingArguments."""
    return {
        "output_dir": str(scratch / "out"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": BATCH // micro,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": SEED,
    }


def rival(kind: str, rows: list[dict[str, Any]], micro: int, scratch: Path) -> tuple[float, list[float]]:
    """transformers' Trainer or TRL's SFTTrainer over the same rows, in their order."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedTokenizerFast, set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    folder = model_folder()
    set_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", pad_token="<|im_end|>")
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, lora_dropout=0.0, task_type="CAUSAL_LM")
    common = common_arguments(scratch, micro) | {
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }
    if kind == "trainer":
        from transformers import Trainer, TrainingArguments

        plain: Any = rows  # a list will do: the `datasets` library would only add to its memory
        collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        return timed(
            Trainer(
                model=get_peft_model(model, lora),
                args=TrainingArguments(**common),
                train_dataset=plain,
                data_collator=collator,
            )
        )
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(
        **common, padding_free=kind == "trl-free", max_length=None, bf16=False, gradient_checkpointing=False
    )
    data = Dataset.from_list(rows)
    return timed(SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora))


def timed(trainer: Any) -> tuple[float, list[float]]:
    """Seconds of the loop and the loss of every step."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def model_folder() -> str:
    """Where the built-in model lies: train.py says it, as a rival's environment cannot find it."""
    return os.environ["BENCHMARK_MODEL"]


def utilization(rows: list[dict[str, Any]], seconds: float) -> float:
    """(4 P_frozen + 6 P_trained) x tokens and the attention's products, over the measured peak of a large product."""
    frozen, trained, layers, hidden = 134.5e6, 0.46e6, 30, 576
    lengths = [len(row["input_ids"]) for row in rows]
    attention = sum(12 * layers * hidden * length**2 / 2 for length in lengths)
    work = (4 * frozen + 6 * trained) * sum(lengths) + attention
    return work / seconds / peak_flops()


def peak_flops() -> float:
    """The fastest of several 1024 x 2048 x 2048 products in bf16."""
    x, w = (torch.randn(shape, dtype=torch.bfloat16) for shape in ((1024, 2048), (2048, 2048)))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return 2 * 1024 * 2048 * 2048 / best


if __name__ == "__main__":
    main()
