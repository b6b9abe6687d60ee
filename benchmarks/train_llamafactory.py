"""LLaMA-Factory's `train` over rows that are tokenized already; train_one.py imports it in LLaMA-Factory's environment.

Its own data pipeline is left out (`tokenized_path`), so that it trains exactly the rows of the other systems; all else
is its supervised fine-tuning as it comes, with bf16 (it allows pure_bf16 on GPUs only).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from train_one import ALPHA, RANK, TARGETS, common_arguments, model_folder


def train(rows: list[dict[str, Any]], micro: int, scratch: Path) -> tuple[float, list[float]]:
    """Seconds of the loop, as transformers' Trainer below it measures them, and the loss of every step."""
    os.environ["DISABLE_VERSION_CHECK"] = "1"  # it refuses the datasets and torch of today
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp

    masked = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    DatasetDict({"train": Dataset.from_list(masked)}).save_to_disk(str(scratch / "rows"))
    run_exp(
        common_arguments(scratch, micro)
        | {
            "model_name_or_path": model_folder(),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": RANK,
            "lora_alpha": ALPHA,
            "lora_dropout": 0.0,
            "lora_target": ",".join(TARGETS),
            "template": "default",
            "dataset": "named_only",
            "tokenized_path": str(scratch / "rows"),
            "cutoff_len": 4096,
            "disable_shuffling": True,
            "bf16": True,
            "use_cpu": True,
            "disable_gradient_checkpointing": True,
        }
    )
    told = json.loads((scratch / "out" / "train_results.json").read_text())
    log = json.loads((scratch / "out" / "trainer_state.json").read_text())["log_history"]
    return float(told["train_runtime"]), [row["loss"] for row in log if "loss" in row]
