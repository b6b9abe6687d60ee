"""Trackers that the Trainer reports to. None by default: nothing leaves the machine unasked."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunewright.core.errors import MissingExtraError

TENSORBOARD = "tensorboard"


def check(names: Sequence[str]) -> None:
    """Raises MissingExtraError with the pip line, before anything slow, when a tracker's library is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"train.report_to names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where="train.report_to",
            fix=f"pip install {' '.join(missing)}, or leave it out",
        )


def callbacks(names: Sequence[str], logs: Path, *, after_step: int) -> list[Any]:
    """TensorBoard's callback, writing below `logs`; transformers would write to a folder named after the host. Steps
    after `after_step` that an earlier process wrote are hidden, as they are trained again. The other trackers are
    transformers' own and choose their place themselves."""
    if TENSORBOARD not in names:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return [TensorBoardCallback(SummaryWriter(log_dir=str(logs), purge_step=after_step + 1))]


def by_trainer(names: Sequence[str]) -> list[str]:
    """Those that the Trainer makes by itself."""
    return [name for name in names if name != TENSORBOARD]
