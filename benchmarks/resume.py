"""kill -9 at random moments, during saves too, and the same command again: are the weights those of an undisturbed run?

    python benchmarks/resume.py --kills 20

Each round trains the tiny model (LoRA with dropout) through the command line and kills it several times, every second
time while a checkpoint is being written; rounds take turns with 0 and 2 dataloader workers. The last line on stdout is
one JSON document: how many kills there were, and how many of them were in rounds that ended in the same bytes as one
run with 0 workers that nothing disturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Output, Workspace, begin

LABELS = ("fee", "card", "loan")
WORKERS = (0, 2)
KILLS_A_ROUND = 5
PROJECT = """
name: kills
model: {{path: builtin:tiny}}
data: {{sources: [none.jsonl]}}
train:
  method: {{name: lora, rank: 8, dropout: 0.1}}
  steps: {steps}
  rows_per_step: 4
  learning_rate: 5e-3
  evaluations_per_epoch: 1
  early_stopping: null
  keep_checkpoints: 1
  dataloader_workers: {workers}
"""


@dataclass
class Place:
    """One project in a folder of its own, trained by processes that come and go."""

    root: Path
    workers: int
    steps: int
    kills: int = 0
    during_save: int = 0
    workspace: Workspace = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        self.workspace = Workspace(self.root, "kills")
        (self.root / "project.yaml").write_text(PROJECT.format(steps=self.steps, workers=self.workers))
        output = begin(self.workspace, "data", {"made": True}, ())
        assert isinstance(output, Output)
        for split, rows in (("train", range(48)), ("validation", range(100, 104)), ("test", range(200, 204))):
            files.write_jsonl(output.path / f"{split}.jsonl", [row(number) for number in rows])
        output.seal()

    @property
    def folder(self) -> Path:
        """The training's artifact."""
        return self.workspace.stage_directory("train") / "0001"

    def start(self) -> subprocess.Popen[bytes]:
        """A new process of the command line; its words go to log.txt."""
        with (self.root / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", "tunewright", "train", str(self.root / "project.yaml")]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def written(self) -> int:
        """Bytes of the events so far."""
        events = self.folder / "events.jsonl"
        return events.stat().st_size if events.exists() else 0

    def is_saving(self) -> bool:
        """Whether a checkpoint is there that is not whole yet."""
        return any(not (path / "whole.json").exists() for path in self.folder.glob(".checkpoints/checkpoint-*"))

    def finish(self) -> str:
        """Runs to the end; the SHA-256 of the weights. Raises RuntimeError when the process fails."""
        if self.start().wait() != 0:
            raise RuntimeError((self.root / "log.txt").read_text())
        return files.sha256(self.workspace.newest("train").file("adapter/adapter_model.safetensors"))


def row(number: int) -> dict[str, object]:
    """A question whose first word is the answer."""
    label = LABELS[number % 3]
    turns = (Message(role="user", content=f"{label} {number}"), Message(role="assistant", content=label))
    return Conversation(id=f"made:{number}", messages=turns).to_row()


def kill_once(place: Place, moments: random.Random, *, during_save: bool) -> bool:
    """Starts the training, lets it get on, kills it; whether it was still running."""
    before = place.written()
    process = place.start()
    wait_for(process, lambda: place.written() > before + 400)  # past the line that says where it goes on
    time.sleep(moments.uniform(0, 0.5))
    if during_save:
        wait_for(process, place.is_saving)
        time.sleep(moments.uniform(0, 0.02))
    saving = place.is_saving()
    process.kill()
    was_running = process.wait() == -9
    place.kills += was_running
    place.during_save += was_running and saving
    return was_running


def wait_for(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Until the condition holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.0005)


def disturbed(place: Place, kills: int, moments: random.Random) -> str:
    """Up to `kills` kills, then to the end; the SHA-256 of the weights."""
    for number in range(kills):
        if not kill_once(place, moments, during_save=number % 2 == 0):
            break
    return place.finish()


def main() -> None:
    """Rounds of kills until there are enough of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--steps", type=int, default=240)
    wanted = parser.parse_args()
    moments = random.Random(wanted.seed)
    kills = identical = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Place(Path(folder) / "undisturbed", 0, wanted.steps).finish()
        say(f"undisturbed: {undisturbed}")
        number = 0
        while kills < wanted.kills:
            place = Place(Path(folder) / f"round-{number}", WORKERS[number % len(WORKERS)], wanted.steps)
            found = disturbed(place, min(wanted.kills - kills, KILLS_A_ROUND, -(-wanted.kills // 2)), moments)
            kills += place.kills
            identical += place.kills if found == undisturbed else 0
            say(
                f"round {number}, {place.workers} workers, {place.kills} kills ({place.during_save} during a save): "
                f"{'identical' if found == undisturbed else f'DIFFERENT {found}'}"
            )
            number += 1
    print(json.dumps({"kills": kills, "identical": identical}))


def say(text: str) -> None:
    """Progress on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
