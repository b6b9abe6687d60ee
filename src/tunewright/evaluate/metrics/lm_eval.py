"""Tasks of lm-evaluation-harness (Gao et al. 2021), run as a program of its own on a model's folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError, ResourceError
from tunewright.core.events import say
from tunewright.core.scoring import Measured, mean_of_rows
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.lm_eval_results import TaskResult, read_results
from tunewright.evaluate.metrics.model_options import LmEvalOptions

VERSION = 1
_WHERE = "evaluate.metrics.lm_eval"
_SHOWN_LINES = 3


class LmEval:
    """`lm_eval.TASK` for every task named, 0 to 1 where the task's metric is a rate.

    Other numbers than an exam of our own give: the harness asks in its own words, and counts as its task says.
    """

    def __init__(self, options: LmEvalOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: LmEvalOptions) -> list[str]:
        """Flat keys that `measure_folder` produces."""
        return [f"lm_eval.{task}" for task in options.tasks]

    def measure_folder(self, folder: Path, corpus: Corpus) -> list[Measured]:
        """Runs all tasks on the model in `folder` (transformers' form). One line of statistics a row of the task, so
        that two models are compared row by row.

        Raises MissingExtraError where the harness is not installed, ArtifactError when it fails, ResourceError after
        timeout_s, ConfigError for a metric that the task does not have or that is no mean over rows.
        """
        program = self._program()
        with TemporaryDirectory(prefix="tunewright-lm-eval-") as name:
            scratch = Path(name)
            (scratch / "model").symlink_to(folder.resolve(), target_is_directory=True)
            say(f"evaluate: lm_eval on the {corpus.system} model: {', '.join(self.options.tasks)}")
            self._run([*program, *self._arguments(scratch, corpus)], scratch, corpus)
            found = read_results(scratch / "out", self.options.tasks, where=_WHERE)
        return [_measured(result) for result in found]

    def check_folder(self, corpus: Corpus) -> None:
        """Raises what `measure_folder` raises where the harness or a folder is missing, before any model is opened. How
        many rows there will be only the harness knows."""
        self._program()
        self._include(corpus)

    def _program(self) -> list[str]:
        """How the harness is called. It is looked for, not imported: it may need another environment than ours."""
        named = self.options.python
        if named:
            python = shutil.which(named)
            if python is None:
                raise ConfigError(f"there is no program '{named}'", where=f"{_WHERE}.python", fix="name a Python")
            done = subprocess.run(
                [python, "-c", "import importlib.util as u; raise SystemExit(not u.find_spec('lm_eval'))"]
            )
            if done.returncode == 0:
                return [python, "-m", "lm_eval"]
        elif program := shutil.which("lm_eval"):
            return [program]
        elif find_spec("lm_eval") is not None:
            return [sys.executable, "-m", "lm_eval"]
        raise MissingExtraError(
            f"lm-evaluation-harness is not installed{f' for {named}' if named else ''}",
            where=_WHERE,
            fix=f"{named or 'python'} -m pip install 'lm_eval[hf]', best into an environment of its own that "
            "`python:` then names",
        )

    def _include(self, corpus: Corpus) -> list[str]:
        if not self.options.include_path:
            return []
        place = (corpus.root / self.options.include_path).resolve()
        if not place.is_dir():
            raise ConfigError(
                "there is no such folder", where=f"{_WHERE}.include_path: {place}", fix="correct the path"
            )
        return ["--include_path", str(place)]

    def _arguments(self, scratch: Path, corpus: Corpus) -> list[str]:
        """The model is named by a link, as the harness cuts its arguments at commas."""
        options = self.options
        numbers = {
            "--num_fewshot": options.num_fewshot,
            "--limit": options.limit,
            "--batch_size": options.batch_size or corpus.batch_size,
        }
        return [
            *("--model", "hf", "--model_args", f"pretrained={scratch / 'model'}"),
            *("--tasks", ",".join(options.tasks), "--output_path", str(scratch / "out"), "--log_samples"),
            *(["--apply_chat_template"] if options.chat_template else []),
            *(word for name, value in numbers.items() if value is not None for word in (name, str(value))),
            *self._include(corpus),
        ]

    def _run(self, command: list[str], scratch: Path, corpus: Corpus) -> None:
        """In the project's folder, so that relative paths in task files begin there."""
        log = scratch / "log.txt"
        limit = self.options.timeout_s
        try:
            with log.open("wb") as handle:
                done = subprocess.run(
                    command, stdout=handle, stderr=subprocess.STDOUT, cwd=corpus.root, timeout=limit, check=False
                )
        except subprocess.TimeoutExpired:
            raise ResourceError(
                f"lm_eval took more than {limit:g} s", where=_WHERE, fix="raise timeout_s or set limit"
            ) from None
        except OSError as error:
            raise ConfigError(f"{command[0]} cannot be started: {error.strerror}", where=_WHERE) from None
        if done.returncode:
            lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
            said = "\n".join(lines[-_SHOWN_LINES:]) or "it said nothing"
            raise ArtifactError(
                f"lm_eval ended with exit code {done.returncode}:\n{said}",
                where=_WHERE,
                fix="see `lm_eval ls tasks` for the names; a task's data set must be on this machine or reachable",
            )


def _measured(result: TaskResult) -> Measured:
    return Measured(
        f"lm_eval.{result.task}",
        VERSION,
        np.array(result.rows, dtype=np.float64)[:, None],
        mean_of_rows,
        yes_no=all(value in (0, 1) for value in result.rows),
        unit="" if all(0 <= value <= 1 for value in result.rows) else "score",
        higher_is_better=result.higher_is_better,
        signature=result.signature,
    )
