"""Reading and checking YAML: strict, with the line of every fault, all faults at once."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tunewright.core.errors import ConfigError

Path_ = tuple[str | int, ...]
_SECRETS = ("key", "keys", "token", "secret", "password")
"""How keys end whose values, and all below them, no message may show, not even a wrong one."""
Lines = dict[Path_, int]
ModelT = TypeVar("ModelT", bound=BaseModel)


class Section(BaseModel):
    """Base of every config model: frozen, unknown keys refused, field docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 words and numbers: `on`, `no` are words, `1e-4` is a number."""


_YAML_1_1 = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _YAML_1_1]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))


def read_yaml(text: str, source: str) -> tuple[dict[str, Any], Lines]:
    """Parses `text` into (data, line of each key path). Raises ConfigError for bad syntax or duplicate keys."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError("the file is empty", where=source, fix="start from `tunewright init`")
        lines: Lines = {}
        faults: list[str] = []
        _walk(node, (), lines, faults, source)
        if faults:
            raise ConfigError("\n".join(faults))
        data = loader.construct_document(node)
    except ConstructorError as error:
        mark = error.problem_mark
        raise ConfigError(f"{error.problem}", where=f"{source}:{mark.line + 1 if mark else '?'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"this is not valid YAML: {problem}", where=place) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigError("the file must hold `key: value` lines at the top", where=source)
    return data, lines


def _walk(node: Node, path: Path_, lines: Lines, faults: list[str], source: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                faults.append(f"{source}:{line}: a key must be a plain word")
                continue
            if key.value in seen:
                faults.append(f"{source}:{line}: the key '{key.value}' stands twice (first on line {seen[key.value]})")
            seen[key.value] = line
            lines[(*path, key.value)] = line
            _walk(value, (*path, key.value), lines, faults, source)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, faults, source)


def load_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Reads a YAML file; raises ConfigError when it is missing, not UTF-8 or not valid."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            "there is no such file", where=str(path), fix="check the path, or `tunewright init`"
        ) from None
    except IsADirectoryError:
        raise ConfigError("this is a directory, not a project file", where=str(path)) from None
    except PermissionError:
        raise ConfigError("the file may not be read", where=str(path), fix="check its permissions") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is not UTF-8 (byte {error.start})", where=str(path)) from None
    return read_yaml(text, str(path))


def apply_overrides(data: dict[str, Any], overrides: list[str], lines: Lines) -> None:
    """Puts `section.key=value` words into `data` in place. Values are read as YAML; list items by index."""
    for word in overrides:
        key, separator, raw = word.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{word}' is no override", fix="write section.key=value")
        try:
            value = yaml.load(raw, Loader=_Loader) if raw.strip() else ""  # noqa: S506 (a SafeLoader subclass)
        except yaml.YAMLError:
            raise ConfigError(f"the value of '{key}' is not valid YAML: {raw}") from None
        parts: Path_ = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        _assign(data, parts, value, key)
        for path in [path for path in lines if path[: len(parts)] == parts]:
            del lines[path]
        lines[parts] = 0


def _assign(data: Any, parts: Path_, value: Any, key: str) -> None:
    for part in parts[:-1]:
        if isinstance(data, dict) and isinstance(part, str):
            if not isinstance(data.get(part), dict | list):
                data[part] = {}
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            raise ConfigError(f"'{key}' names no place in the project file: '{part}' is not there")
    last = parts[-1]
    if isinstance(data, list):
        if not isinstance(last, int) or last >= len(data):
            raise ConfigError(f"'{key}' names no place in the project file: the list has {len(data)} items")
        data[last] = value
    else:
        data[str(last)] = value


def validate(model: type[ModelT], data: dict[str, Any], lines: Lines, source: str) -> ModelT:
    """Checks `data` against `model`; raises one ConfigError that lists every fault with line and suggestion."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = [_fault(model, dict(item), data, lines, source) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None


def _fault(model: type[BaseModel], item: dict[str, Any], data: Any, lines: Lines, source: str) -> str:
    path = _plain_path(tuple(item["loc"]), data)
    line = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), 1)
    place = f"{source}:{line}" if line else "command line"
    key = ".".join(str(part) for part in path) or "project file"
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{place}: {key}: unknown key{_did_you_mean(str(path[-1]), _fields_at(model, path[:-1], item['loc']))}"
    if kind == "missing":
        return f"{place}: {key}: this key is required"
    if kind == "union_tag_invalid":
        names = re.findall(r"'([^']+)'", str(context.get("expected_tags", "")))
        return f"{place}: {key}: unknown name '{context.get('tag')}'{_did_you_mean(str(context.get('tag')), names)}"
    if kind == "union_tag_not_found":
        return f"{place}: {key}: write {{name: ..., options}}"
    if kind == "literal_error":
        return f"{place}: {key}: must be {context.get('expected')}, not {item['input']!r}"
    message = str(item["msg"]).removeprefix("Value error, ")
    is_secret = any(str(part).endswith(_SECRETS) for part in path)
    is_hidden = kind == "value_error" or isinstance(item["input"], dict | BaseModel) or is_secret
    shown = "" if is_hidden else f" (got {item['input']!r})"
    return f"{place}: {key}: {message[0].lower()}{message[1:]}{shown}"


def _plain_path(location: Path_, data: Any) -> Path_:
    """The location without the tags of plug-ins, which pydantic puts in and the file does not have."""
    path: Path_ = ()
    for part in location:
        if isinstance(data, dict) and part not in data and data.get("name") == part:
            continue
        path = (*path, part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            data = None
    return path


def _fields_at(model: type[BaseModel], path: Path_, location: Path_) -> list[str]:
    """Names of the fields a key could have meant: walks the JSON schema along the location, tags included."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return node

    node = resolve(schema)
    for part in location[:-1]:
        alternatives = [resolve(option) for option in node.get("anyOf", []) + node.get("oneOf", [])]
        tagged = [a for a in alternatives if a.get("properties", {}).get("name", {}).get("const") == part]
        if isinstance(part, int):
            node = resolve(node.get("items", {}) or next((a["items"] for a in alternatives if "items" in a), {}))
        elif tagged:
            node = tagged[0]
        elif part in node.get("properties", {}):
            node = resolve(node["properties"][part])
        else:
            node = resolve(next((a["properties"][part] for a in alternatives if part in a.get("properties", {})), {}))
    alternatives = [resolve(option) for option in node.get("anyOf", []) + node.get("oneOf", [])]
    return [name for option in [node, *alternatives] for name in option.get("properties", {})]


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def expand_secret(value: str) -> str:
    """`${NAME}` becomes the environment variable NAME; only secret fields call this."""
    match = re.fullmatch(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value)
    if not match:
        return value
    if match[1] not in os.environ:
        raise ValueError(f"the environment variable {match[1]} is not set")
    return os.environ[match[1]]
