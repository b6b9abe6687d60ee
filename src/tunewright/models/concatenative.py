"""Whether a chat template only copies the contents of turns into its text, read off its syntax tree.

True for a template that shows every content as it is or trimmed and decides nothing by one: for contents that are
texts, not empty and without outer white space, its text is then the same fixed pieces around them. Everything that is
not known to keep to that (other filters, macros, comparisons with a content) makes a template count as not
concatenative, so a wrong yes would need a fault here and a wrong no only costs time.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from jinja2 import nodes


class Kind(Enum):
    """What an expression may hold. CLEAN: nothing that depends on a content; CONTENT: a text that only strings
    contents and clean texts together; TURN: a turn; TURNS: a list of turns."""

    CLEAN = 0
    CONTENT = 1
    TURN = 2
    TURNS = 3


class _Unproven(Exception):
    """The template does something with a content, or with whole turns, that is not known to be copying."""


_NEIGHBOURS = ("previtem", "nextitem")
_TYPE_TESTS = {"string", "defined", "undefined", "none", "mapping", "iterable", "sequence", "number", "boolean"}
"""Tests that ask for a type: one answer for all texts."""
_FUNCTIONS = {"raise_exception", "namespace", "range"}
_STRIPS = ("strip", "lstrip", "rstrip")
_HOLDERS = {"loop", "self", "caller", "varargs", "kwargs"}
"""Names of jinja's own through which turns or contents may come in another way."""
_ROUNDS = 8
"""Names are assigned inside loops, so kinds are gathered until they stay the same."""


def is_concatenative(template: nodes.Template) -> bool:
    """Whether the text is fixed pieces and contents, whatever the contents are (see above)."""
    reader = _Reader()
    try:
        for _ in range(_ROUNDS):
            before = dict(reader.names)
            reader.run(template.body)
            if reader.names == before:
                return True
    except _Unproven:
        return False
    return False


class _Reader:
    """Walks through statements and keeps what kind every name may have."""

    def __init__(self) -> None:
        self.names: dict[str, Kind] = {"messages": Kind.TURNS}
        self._spaces: set[str] = set()

    def run(self, body: list[nodes.Node]) -> None:
        """Statements."""
        for node in body:
            self._statement(node)

    def _statement(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Output):
            for part in node.nodes:
                _require(self._kind(part) in (Kind.CLEAN, Kind.CONTENT))
        elif isinstance(node, nodes.If):
            self._kind(node.test)
            self.run([*node.body, *node.elif_, *node.else_])
        elif isinstance(node, nodes.For):
            self._loop(node)
        elif isinstance(node, nodes.Assign):
            if _makes_namespace(node.node):
                self._spaces.add(str(getattr(node.target, "name", "")))
            self._assign(node.target, self._kind(node.node))
        elif isinstance(node, nodes.ExprStmt):
            self._kind(node.node)
        else:
            _require(isinstance(node, nodes.Break | nodes.Continue))

    def _loop(self, node: nodes.For) -> None:
        kind = self._kind(node.iter)
        _require(kind in (Kind.CLEAN, Kind.TURNS) and not node.recursive)
        if kind is Kind.TURNS:
            _require(isinstance(node.target, nodes.Name))
            self._assign(node.target, Kind.TURN)
        else:
            for name in [node.target] if isinstance(node.target, nodes.Name) else node.target.find_all(nodes.Name):
                self._assign(name, Kind.CLEAN)
        if node.test is not None:
            self._kind(node.test)
        self.run(node.body)
        self.run(node.else_)

    def _assign(self, target: nodes.Node, kind: Kind) -> None:
        if isinstance(target, nodes.NSRef):
            name = f"{target.name}.{target.attr}"
        else:
            _require(isinstance(target, nodes.Name))
            name = str(getattr(target, "name", ""))
        _require(name not in _HOLDERS)
        known = self.names.setdefault(name, kind)
        if known is not kind:
            _require({known, kind} <= {Kind.CLEAN, Kind.CONTENT})
            self.names[name] = Kind.CONTENT

    def _kind(self, node: nodes.Node) -> Kind:
        """The kind of an expression."""
        if isinstance(node, nodes.Const | nodes.TemplateData):
            return Kind.CLEAN
        if isinstance(node, nodes.Name):
            _require(node.name not in _HOLDERS | self._spaces)  # their parts are asked for one by one
            return self.names.get(node.name, Kind.CLEAN)
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            return self._part(node)
        if isinstance(node, nodes.Filter | nodes.Test | nodes.Call):
            return self._applied(node)
        if isinstance(node, nodes.Concat):
            return self._joined(node.nodes)
        if isinstance(node, nodes.Add | nodes.And | nodes.Or):
            return self._joined([node.left, node.right])
        if isinstance(node, nodes.Not):
            self._kind(node.node)
            return Kind.CLEAN
        if isinstance(node, nodes.CondExpr):
            return self._chosen(node)
        if isinstance(node, nodes.Compare) and self._compares_to_nothing(node):
            return Kind.CLEAN
        return self._clean(node)

    def _clean(self, node: nodes.Node) -> Kind:
        """Any other expression, where nothing in it is of another kind."""
        for child in node.iter_child_nodes():
            kind = self._kind(child) if isinstance(child, nodes.Expr) else self._clean(child)
            _require(kind is Kind.CLEAN)
        return Kind.CLEAN

    def _joined(self, parts: list[nodes.Expr]) -> Kind:
        kinds = {self._kind(part) for part in parts}
        _require(kinds <= {Kind.CLEAN, Kind.CONTENT})
        return Kind.CONTENT if Kind.CONTENT in kinds else Kind.CLEAN

    def _chosen(self, node: nodes.CondExpr) -> Kind:
        self._kind(node.test)
        kinds = {self._kind(part) for part in (node.expr1, node.expr2) if part is not None}
        if len(kinds) == 1:
            return kinds.pop()
        _require(kinds <= {Kind.CLEAN, Kind.CONTENT})
        return Kind.CONTENT

    def _part(self, node: nodes.Getattr | nodes.Getitem) -> Kind:
        """An attribute or an item."""
        if isinstance(node.node, nodes.Name) and isinstance(node, nodes.Getattr):
            if node.node.name == "loop":
                return Kind.TURN if node.attr in _NEIGHBOURS else Kind.CLEAN
            if node.node.name in self._spaces:
                return self.names.get(f"{node.node.name}.{node.attr}", Kind.CLEAN)
        whole = self._kind(node.node)
        if whole is Kind.CLEAN:
            return Kind.CLEAN if isinstance(node, nodes.Getattr) else self._clean(node)
        _require(whole is not Kind.CONTENT)
        if whole is Kind.TURN:
            key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
            _require(isinstance(key, str) and key not in _DICT_METHODS)
            return Kind.CONTENT if key == "content" else Kind.CLEAN
        _require(isinstance(node, nodes.Getitem))
        assert isinstance(node, nodes.Getitem)
        _require(self._clean(node.arg) is Kind.CLEAN if isinstance(node.arg, nodes.Slice) else self._is_clean(node.arg))
        return Kind.TURNS if isinstance(node.arg, nodes.Slice) else Kind.TURN

    def _is_clean(self, node: nodes.Node) -> bool:
        return self._kind(node) is Kind.CLEAN

    def _applied(self, node: nodes.Filter | nodes.Test | nodes.Call) -> Kind:
        """Filters, tests and calls: trimming a content, counting turns, asking for a type; else clean ones only."""
        arguments = [*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs]
        is_bare = not any(arguments)
        inner = node.node
        if isinstance(node, nodes.Call):
            if isinstance(inner, nodes.Getattr) and inner.attr in _STRIPS and _only_blanks(arguments):
                kind = self._kind(inner.node)
                _require(kind in (Kind.CLEAN, Kind.CONTENT))
                return kind
            _require(not isinstance(inner, nodes.Name) or inner.name in _FUNCTIONS)
            return self._clean(node)
        kind = self._kind(inner) if inner is not None else Kind.CLEAN
        if kind is Kind.CLEAN:
            return self._clean(node)
        if isinstance(node, nodes.Test):
            _require(is_bare and node.name in _TYPE_TESTS)
            return Kind.CLEAN
        if kind is Kind.CONTENT:
            _require(is_bare and node.name == "trim")
            return Kind.CONTENT
        _require(is_bare and kind is Kind.TURNS and node.name in ("length", "count"))
        return Kind.CLEAN

    def _compares_to_nothing(self, node: nodes.Compare) -> bool:
        """`content != none`, `content == ''`: the same for every text that is not empty."""
        other = node.ops[0].expr if len(node.ops) == 1 else None
        is_nothing = isinstance(other, nodes.Const) and other.value in (None, "") and node.ops[0].op in ("eq", "ne")
        return is_nothing and self._kind(node.expr) in (Kind.CLEAN, Kind.CONTENT)


_DICT_METHODS = frozenset(dir(dict))
"""A turn's methods (`items`, `get`) may give its content under another name."""


def _makes_namespace(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "namespace"


def _only_blanks(arguments: list[Any]) -> bool:
    """Nothing, or characters that do not stand at either end of a content."""
    given = [argument for argument in arguments if argument is not None]
    values = [getattr(argument, "value", None) for argument in given]
    return all(isinstance(value, str) and not value.strip() for value in values)


def _require(holds: bool) -> None:
    if not holds:
        raise _Unproven
