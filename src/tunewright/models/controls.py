"""Control tokens: which added tokens are, where content spells one, and how it is kept from becoming one.

The idea is that of transformers' `sanitize_control_tokens` (from 5.24 on, off by default there): content is made
harmless before the template sees it and put back before encoding, so that only the template's own text can become a
control id. Ours is the one path for every version and always on. It is at least as strict: markers that are not
flagged special, tool calls and tool descriptions are covered, and what spells a token is encoded as text, not removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

SHIELD = 0xF0000
"""Control-token text inside content is carried through the template as private-use characters from here on."""
_REASONING = re.compile(r"\s*(<think>)(?:(?!</?think>).)*(</think>)", re.DOTALL)
_MARK = re.compile(
    r"<[|｜].*[|｜]>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\]"
    r"|</?(?:think|tools?|tool_calls?|tool_responses?|tool_results?|(?:start|end)_of_turn)>"
)
_BRACKETS = {"<": ">", "[": "]", "{": "}"}
_NOT_TEXT = ("role",)
"""Keys of a turn that no content stands in."""


def control_tokens(added: Mapping[int, AddedToken], template: str) -> dict[str, int]:
    """{text: id}, longest text first: special tokens, and bracketed ones that are markers by their form or because
    the template writes them. Other added tokens (runs of spaces, HTML tags, words) are ordinary text."""
    found = {token.content: index for index, token in added.items() if token.special or _marks(token.content, template)}
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def _marks(text: str, template: str) -> bool:
    is_bracketed = len(text) > 2 and _BRACKETS.get(text[0]) == text[-1]
    return bool(_MARK.fullmatch(text)) or (is_bracketed and text in template)


def pattern_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest first where the caller sorted them so; captured, for `split`."""
    return re.compile("(" + "|".join(map(re.escape, texts)) + ")" if texts else r"((?!))")


def splits_cleanly(tokenizer: Tokenizer, added: Mapping[int, AddedToken], controls: Mapping[str, int]) -> bool:
    """Whether a text's ids are those of the parts between its control tokens, each encoded alone.

    True by the construction of `tokenizers` (added tokens split the text before anything else looks at it) when
    no control token swallows spaces or needs word borders, when control tokens are found before any normalization,
    when no other added token can overlap one, and when nothing depends on a part's place in the whole text
    (sentencepiece's "first" prefix does).
    """
    own = [token for token in added.values() if token.content in controls]
    if any(token.lstrip or token.rstrip or token.single_word for token in own):
        return False
    normalizer = _described(tokenizer.normalizer)
    if any(token.normalized for token in own) and not _does_nothing(normalizer):
        return False
    others = [token.content for token in added.values() if token.content not in controls]
    return not _overlap(others, controls) and not _is_placed(_described(tokenizer.pre_tokenizer))


def _described(part: Any) -> dict[str, Any]:
    return dict(json.loads(part.__getstate__())) if part is not None else {}


def _does_nothing(normalizer: Mapping[str, Any]) -> bool:
    return not normalizer or (normalizer["type"] == "Sequence" and all(map(_does_nothing, normalizer["normalizers"])))


def _is_placed(pre_tokenizer: Mapping[str, Any]) -> bool:
    inner = pre_tokenizer.get("pretokenizers", ())
    return pre_tokenizer.get("prepend_scheme") == "first" or any(map(_is_placed, inner))


def _overlap(others: Sequence[str], controls: Mapping[str, int]) -> bool:
    """Whether one of `others` holds a control text, lies inside one, or shares an end with one's beginning."""
    starts = {text[:size] for text in controls for size in range(1, len(text))}
    ends = {text[size:] for text in controls for size in range(1, len(text))}
    inner = {text[a:b] for text in controls for a in range(len(text)) for b in range(a + 1, len(text) + 1)}
    holds = pattern_of(list(controls))
    return any(
        text in inner
        or holds.search(text)
        or any(text[size:] in starts or text[:size] in ends for size in range(1, len(text)))
        for text in others
    )


def own_reasoning(turn: Mapping[str, Any]) -> int:
    """Length of the reasoning block that an assistant's content begins with, 0 without one.

    Its two marks are the model's own and the template takes them from there (Qwen3's splits content at `</think>`);
    marks at any other place, or in any other turn, are text.
    """
    content = turn.get("content")
    if turn.get("role") != "assistant" or not isinstance(content, str) or "<think>" not in content:
        return 0
    found = _REASONING.match(content)
    return found.end() if found else 0


def texts_in(turn: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a turn that may spell a control token: content apart from reasoning marks, calls, other keys."""
    size = own_reasoning(turn)
    for key, value in turn.items():
        if key == "content" and size:
            block = value[:size]
            yield block[block.index("<think>") + len("<think>") : -len("</think>")]
            yield value[size:]
        elif key not in _NOT_TEXT:
            yield from nested_texts(value)


def texts_of(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """`texts_in` of all turns; most turns are a role and a content and nothing else."""
    contents = [turn["content"] for turn in turns if len(turn) == 2]
    if len(contents) == len(turns) and not any(text is None or "<think>" in text for text in contents):
        return contents
    return [text for turn in turns for text in texts_in(turn)]


def nested_texts(value: Any) -> Iterator[str]:
    """The texts inside JSON, keys as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from nested_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from nested_texts(item)


class Shield:
    """Puts one private-use character in the place of each control text, and takes it back after the template."""

    def __init__(self, controls: Sequence[str], pattern: re.Pattern[str], *, texts: Iterable[str]) -> None:
        """texts: all that will be covered; the characters chosen stand in none of them (icon fonts use some)."""
        count = len(controls)
        taken = {ord(letter) for text in texts for letter in text if ord(letter) >= SHIELD}
        starts = range(SHIELD, 0x10FFFE - count, count + 1)
        self._first = next(start for start in starts if taken.isdisjoint(range(start, start + count + 1)))
        self._controls, self._pattern = list(controls), pattern
        self._letters = {text: chr(self._first + index) for index, text in enumerate(controls)}
        self.covered = re.compile(f"[{chr(self._first)}-{chr(self._first + count)}]")

    def cover(self, value: Any) -> Any:
        """`value` (JSON) with every control text covered."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._letters[match[0]], value)
        if isinstance(value, dict):
            return {self.cover(key): self.cover(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.cover(item) for item in value]
        return value

    def cover_turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """The turn with every control text of `texts_in` covered."""
        size = own_reasoning(turn)
        covered = {key: value if key in _NOT_TEXT else self.cover(value) for key, value in turn.items()}
        if size:
            block, rest = turn["content"][:size], turn["content"][size:]
            start, end = block.index("<think>") + len("<think>"), size - len("</think>")
            covered["content"] = block[:start] + self.cover(block[start:end]) + block[end:] + self.cover(rest)
        return covered

    def uncover(self, text: str) -> str:
        """The text with the control texts spelled out again."""
        return self.covered.sub(lambda match: self._controls[ord(match[0]) - self._first], text)

    def parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """The pieces of a covered text in order, uncovered, each with whether it is a control text."""
        end = 0
        for match in self.covered.finditer(text):
            if match.start() > end:
                yield text[end : match.start()], False
            yield self.uncover(match[0]), True
            end = match.end()
        if end < len(text):
            yield text[end:], False
