"""Writing advised settings into a project file so that its comments and its order stay.

Only the places that change are rewritten, found by the marks of the YAML parser. The result is read back and must give
the advised settings exactly; where the file's form does not allow that (anchors, a method over several lines with
another name), the whole file is written anew, and that is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tunewright.advise.proposal import changed_settings, flow
from tunewright.core import config as yaml_config
from tunewright.core import files
from tunewright.core.errors import ConfigError
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig


def write(source: Path, target: Path, project: ProjectConfig, train: TrainConfig, overrides: list[str]) -> bool:
    """Writes `source` with `overrides` (of the command line) and the advised `train` section to `target`; whether the
    comments were kept. Raises ConfigError when `target` is there and is another file than `source`."""
    if target.exists() and target.resolve() != source.resolve():
        raise ConfigError("this file is there already", where=str(target), fix="name a new file, or the project file")
    wanted = project.model_copy(update={"train": train})
    changes = {**_given(overrides), **changed_settings(project, train)}
    text = source.read_text(encoding="utf-8-sig")
    try:
        edited = edit(text, changes)
        kept = _reads_as(edited, wanted)
    except _Unsuited:
        kept = False
    if not kept:
        data, _ = yaml_config.read_yaml(text, str(source))
        yaml_config.apply_overrides(data, [f"{key}={flow(value)}" for key, value in changes.items()], {})
        edited = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        assert _reads_as(edited, wanted), edited
    files.write_text(target, edited)
    return kept


def _given(overrides: list[str]) -> dict[str, Any]:
    found = {}
    for word in overrides:
        key, _, raw = word.partition("=")
        found[key] = yaml_config.read_yaml(f"value: {raw}", "command line")[0]["value"]
    return found


def _reads_as(text: str, wanted: ProjectConfig) -> bool:
    try:
        data, lines = yaml_config.read_yaml(text, "edited")
        return yaml_config.validate(ProjectConfig, data, lines, "edited") == wanted
    except ConfigError:
        return False


class _Unsuited(Exception):
    """The text's form cannot take the change in place."""


def edit(text: str, changes: dict[str, Any]) -> str:
    """`text` with every dotted key set to its value; everything else stays, byte for byte."""
    for key, value in changes.items():
        text = _set(text, key.split("."), value)
    return text


def _set(text: str, path: list[str], value: Any) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, MappingNode):
        raise _Unsuited
    for depth, key in enumerate(path):
        child = _child(node, key)
        if child is None:
            return _insert(text, node, path[depth:], value)
        if depth == len(path) - 1:
            return _replace(text, child, value)
        if not isinstance(child, MappingNode):
            raise _Unsuited
        node = child
    raise AssertionError(path)


def _child(node: MappingNode, key: str) -> Node | None:
    return next((value for name, value in node.value if name.value == key), None)


def _replace(text: str, node: Node, value: Any) -> str:
    is_inline = (isinstance(node, ScalarNode) and node.style in (None, "'", '"')) or (
        isinstance(node, MappingNode | SequenceNode) and node.flow_style
    )
    if not is_inline or node.start_mark.index == node.end_mark.index:
        raise _Unsuited
    return text[: node.start_mark.index] + flow(value) + text[node.end_mark.index :]


def _insert(text: str, parent: MappingNode, keys: list[str], value: Any) -> str:
    written: Any = value
    for key in reversed(keys[1:]):
        written = {key: written}
    line = f"{keys[0]}: {flow(written)}"
    if parent.flow_style:
        place = parent.end_mark.index - 1
        return text[:place].rstrip() + (", " if parent.value else "") + line + text[place:]
    if not parent.value:
        raise _Unsuited
    indent = " " * parent.value[0][0].start_mark.column
    end = text.find("\n", _end(parent.value[-1][1]))
    place = len(text) if end < 0 else end
    return text[:place] + f"\n{indent}{line}" + text[place:]


def _end(node: Node) -> int:
    """Where the last character of a node stands; a block's own mark lies behind the comments that follow it."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        raise _Unsuited
    return int(node.end_mark.index)
