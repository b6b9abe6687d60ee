"""Job files are what their readers expect: bash that parses, YAML with the keys of SkyPilot and Kubernetes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewright import cli
from tunewright.train.sharding.jobs import EMITTERS, Job, k8s, skypilot, slurm

JOB = Job("Bank Demo", ["my project.yaml", "train.epochs=1"], machines=2, ranks=4, folder="/data/my project")
COMMAND = "tunewright train 'my project.yaml' train.epochs=1"


def bash_accepts(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_slurm_script_starts_one_rank_a_gpu(tmp_path: Path) -> None:
    """Run for real, with an srun that starts the tasks one after the other and a tunewright that prints its ranks."""
    script = slurm(JOB)
    bash_accepts(script)
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n" in script
    assert "#SBATCH --signal=TERM@300" in script and "--kill-on-bad-exit=1" in script
    tools = {
        "scontrol": "echo node1; sleep 0.2; echo node2",  # its first reader is gone by then
        "srun": 'shift; for i in 0 1 2 3 4 5 6 7; do SLURM_PROCID=$i SLURM_LOCALID=$((i % 4)) "$@"; done',
        "tunewright": 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $3"',
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_NTASKS": "8", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NODELIST": "node[1-2]"}
    script = script.replace("cd '/data/my project'", f"cd {tmp_path}")
    environment = variables | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, env=environment)
    assert done.stdout.splitlines() == [f"{i} {i % 4} 8 node1 29500 train.epochs=1" for i in range(8)], done.stderr


def test_the_skypilot_task_has_its_keys() -> None:
    task: dict[str, Any] = yaml.safe_load(skypilot(JOB))
    assert task.keys() == {"name", "num_nodes", "resources", "file_mounts", "setup", "run"}
    assert (task["name"], task["num_nodes"], task["resources"]["accelerators"]) == ("train-bank-demo", 2, "A100:4")
    assert task["file_mounts"]["/data/my project"]["mode"] == "MOUNT"
    assert f"-m {COMMAND}" in task["run"] and "--nproc-per-node=4" in task["run"]
    assert '--node-rank="$SKYPILOT_NODE_RANK"' in task["run"]
    bash_accepts(task["run"])
    bash_accepts(task["setup"])


def test_the_kubernetes_job_finds_its_first_pod() -> None:
    service, job = yaml.safe_load_all(k8s(JOB))
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    pod = spec["template"]["spec"]
    assert service["spec"]["selector"] == spec["template"]["metadata"]["labels"]
    assert pod["subdomain"] == service["metadata"]["name"] and pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (line,) = container["args"]
    assert "--master-addr=train-bank-demo-0.train-bank-demo " in line and f"-m {COMMAND}" in line
    bash_accepts(line)


PROJECT = "name: bank\nmodel: {path: builtin:tiny}\ndata: {sources: [none.jsonl]}\n"


@pytest.mark.parametrize("kind", EMITTERS)
def test_the_command_prints_a_job_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "p.yaml").write_text(PROJECT)
    words = [str(tmp_path / "p.yaml"), "train.sharding.name=ddp", "--emit", kind, "--launch", "4", "--nodes", "3"]
    assert cli.main(["train", *words]) == 0
    printed = capsys.readouterr().out
    assert printed == EMITTERS[kind](Job("bank", ["p.yaml", "train.sharding.name=ddp"], 3, 4, str(tmp_path)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--launch", "2"], "train.sharding is not set"),
        (["--emit", "slurm"], "train.sharding is not set"),
        (["--emit", "pbs", "train.sharding.name=ddp"], "--emit knows slurm, skypilot, k8s, not 'pbs'"),
        (["--launch", "0", "train.sharding.name=ddp"], "--launch needs at least one rank"),
    ],
)
def test_what_cannot_be_started_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    (tmp_path / "p.yaml").write_text(PROJECT)
    assert cli.main(["train", str(tmp_path / "p.yaml"), *words]) == 2
    assert reason in capsys.readouterr().err
