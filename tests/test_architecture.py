"""The house rules of docs/architecture.md, checked on the syntax tree of every file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "tunewright"
FILES = sorted(SRC.rglob("*.py"))
STAGES = ("data", "train", "evaluate", "quantize", "serve", "report", "doctor")
CORE_LIBRARIES = {"pydantic", "pydantic_core", "yaml", "numpy", "psutil"}
LIGHT = (
    *("config", "source", "template", "tokens", "controls", "segments", "layout", "token_cache", "__init__"),
    *("frames", "words", "concatenative"),
)
"""Files of models/ that load neither torch nor transformers."""


def room(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_used(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path)]
    return {part[1] for part in parts if part[0] == "tunewright" and len(part) > 1}


def identify(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_stages_do_not_import_each_other(path: Path) -> None:
    here = room(path)
    if here in STAGES:
        allowed = {"core", "models", here, "__version__"} | ({"project"} if here == "doctor" else set())
        assert rooms_used(path) <= allowed
    if here == "lineage":
        assert rooms_used(path) <= {"core", "data", "lineage"}
    if here == "rating":
        assert rooms_used(path) <= {"core", "rating"}
    if here == "models":
        assert rooms_used(path) <= {"core", "models"}
    if here == "core":
        assert rooms_used(path) <= {"core", "__version__"}
    if here not in ("advise", "verbs"):
        assert "advise" not in rooms_used(path), "advice stands above the pipeline"
    if here not in ("plan", "verbs"):
        assert "plan" not in rooms_used(path), "a plan stands above the pipeline"
    if here not in ("release", "verbs", "project"):
        assert "release" not in rooms_used(path), "a release stands above the stages"
    if here not in ("chain", "verbs"):
        assert "chain" not in rooms_used(path), "the proof chain stands above the stages"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) == "core"], ids=identify)
def test_core_needs_only_light_libraries(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - {"tunewright", "__future__"}
    assert outside - set(sys.stdlib_module_names) <= CORE_LIBRARIES


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_transformers_is_known_in_three_rooms_only(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(path)}
    if room(path) not in ("models", "train", "quantize"):
        assert not libraries & {"transformers", "peft"}
    if path.name == "config.py" or (room(path) == "models" and path.stem in LIGHT):
        assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & {"torch", "transformers"}


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300, "split the file by what changes together"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 50, f"{node.name} has {length} lines"
            positional = [a for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")]
            is_kernel = any(
                "triton" in ast.unparse(decorator) for decorator in node.decorator_list
            )  # takes bare pointers
            if node.name != "attend" and not is_kernel:  # its signature is transformers' attention interface
                assert len(positional) <= 5, f"{node.name} takes {len(positional)} positional parameters"


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_public_things_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module says what it is for"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_no_fault_is_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "a bare except hides faults"
            only_pass = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not (only_pass and ast.unparse(node.type) in ("Exception", "BaseException"))
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert not (isinstance(node.value, ast.Constant) and node.value.value is True)


def test_every_stage_has_its_doors() -> None:
    for stage in ("data", "train", "evaluate", "quantize", "serve"):
        assert (SRC / stage / "config.py").exists()
        assert (SRC / stage / "stage.py").exists()


def test_tests_mirror_the_rooms() -> None:
    for folder in (ROOT / "tests").iterdir():
        if folder.is_dir() and not folder.name.startswith(("_", ".")) and folder.name not in ("e2e", "contracts"):
            assert (SRC / folder.name).is_dir(), f"tests/{folder.name} mirrors no room"


LIGHT_COMMANDS = {
    "help": ["--help"],
    "verb help": ["train", "--help"],
    "config check": ["config", "check", "demo.yaml"],
    "config schema": ["config", "schema"],
    "plugins": ["plugins"],
    "data check": ["data", "check", "src/tunewright/builtin_data/bank.jsonl"],
    "runs list": ["runs", "list", "demo.yaml"],
}


@pytest.mark.parametrize("words", LIGHT_COMMANDS.values(), ids=LIGHT_COMMANDS)
def test_light_commands_load_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from tunewright.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy; raise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_is_quick() -> None:
    """0.3 s of CPU is the limit for people; twice that here, so that a loaded machine does not fail the suite."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "tunewright", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.6


def test_the_project_speaks_of_itself_only() -> None:
    """No path of a machine, no registry host in what is shipped."""
    words = re.compile(r"/work/|/\.library|pypi\.org|deb\.debian|registry\.npmjs|/root/", re.IGNORECASE)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".txt", "") and path != Path(__file__) and path.is_file():
            assert not words.search(path.read_text(encoding="utf-8", errors="ignore")), name
