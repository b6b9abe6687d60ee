"""What the documents say is so: pages are generated, commands exist, links lead somewhere, both READMEs agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunewright import cli, project

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]]


def test_reference_pages_are_what_the_code_says() -> None:
    command = [sys.executable, "tools/build_reference.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    shown = "\n".join(blocks)
    commands = [*re.findall(r"`tunewright ([a-z]+)", text), *re.findall(r"\btunewright ([a-z]+)\b", shown)]
    assert set(commands) <= {*cli.VERBS, "VERB"}
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = (
        re.findall(r"```\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
        for name in ("README.md", "README.zh-CN.md")
    )
    lines = [
        [re.sub(r" *#.*", "", line).strip() for line in "".join(blocks).splitlines()] for blocks in (english, chinese)
    ]
    assert lines[0] == lines[1]
    assert english[0].split() == ["make", "demo", "make", "test"]


def test_the_demo_project_is_valid() -> None:
    loaded = project.load(ROOT / "demo.yaml", [])
    assert loaded.model.path == "builtin:smollm2-135m"
    assert loaded.evaluate.gates
