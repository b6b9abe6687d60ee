"""Credentials in text: keys and tokens of known forms, private keys, connection strings, assigned passwords.

Values that only stand for a secret (`your_api_key_here`, `xxxx`, `${TOKEN}`, `<password>`) are none. Forms: the
providers' own documentation of their token prefixes, RFC 7468 (PEM), RFC 7519 (JWT), RFC 6750 (Bearer), RFC 3986.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tunewright.core.text.fold import fold
from tunewright.core.text.spans import Span, free, mask

__all__ = ["KINDS", "Span", "find_secrets", "mask"]

_FILLER = re.compile(
    r"your|example|sample|demo|test|dummy|fake|placeholder|change_?me|insert|replace|enter|here|password|passwd|"
    r"passphrase|pass|pwd|secret|token|api|key|access|client|private|public|value|string|redacted|hidden|none|null|"
    r"undefined|todo|admin|root|user|name|login|my|the|id|x{3,}|\*+|\.{2,}|[_\-\s<>\[\]{}$%]+"
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_.\-]*\d{0,2}\Z")
_VARIABLE = re.compile(r"[$<{%~/.]|os\.environ|process\.env|.*://", re.DOTALL)


def _bits(text: str) -> float:
    """Shannon entropy of the characters times their number: how much there is to guess, in bits."""
    return sum(count * math.log2(len(text) / count) for count in Counter(text).values())


def _informative(value: str) -> str:
    return _FILLER.sub("", value.lower())


def _classes(value: str) -> int:
    """How many of: lower case, upper case, digits, other signs."""
    tests: tuple[Callable[[str], bool], ...] = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    return sum(any(test(letter) for letter in value) for test in tests)


def _is_random(value: str, *, least_bits: float = 40) -> bool:
    """Letters and digits as a generator mixes them."""
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return mixed and _bits(_informative(value)) >= least_bits


def _is_password(value: str) -> bool:
    """6 characters or more of two kinds, hard to guess; a number only where it is no counting-up."""
    if _VARIABLE.match(value) or len(value) < 6:
        return False
    if value.isdigit():
        steps = {int(second) - int(first) for first, second in pairwise(value)}
        return len(set(value)) >= 5 and len(steps) > 1
    return _classes(value) >= 2 and not value.isalpha() and min(_bits(value) - 8, _bits(_informative(value))) >= 10


def _is_key_value(value: str) -> bool:
    return len(value) >= 12 and not _VARIABLE.match(value) and _is_random(value, least_bits=32)


def _is_given(value: str) -> bool:
    """The password of a connection string may be weak, but it must not be a stand-in."""
    return not _VARIABLE.match(value) and len(_informative(value)) >= 3


def _is_pem(block: str) -> bool:
    body = block.split("-----")[2]
    return re.search("[A-Za-z0-9+/]{4}" if block.count("-----") == 4 else "[A-Za-z0-9+/]{30}", body) is not None


@dataclass(frozen=True, slots=True)
class _Form:
    """hints: lower-case texts of which one stands in every secret of this kind; the secret is group `value` of the
    pattern, or all of it."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool]


def _token(kind: str, hints: str, pattern: str, *, least_bits: float = 40) -> _Form:
    edged = re.compile(rf"(?<![A-Za-z0-9])(?P<value>{pattern})(?![A-Za-z0-9])")
    return _Form(kind, tuple(hints.split()), edged, lambda value: _is_random(value, least_bits=least_bits))


_QUOTED = r"""(?P<quote>["'`“‘])(?P<quoted>[^"'`“”‘’\n]{6,256})["'`”’]"""
_BARE = r"""(?P<bare>[^\s"'`<>(){}\[\],;，。；、！？：（）“”‘’\u3400-\u9fff]{6,256})(?![(\[])"""
_ASSIGNS = r"""["'`”]?\s{0,4}(?::=|=>|[:：=]|是|为|\bis\b)\s{0,4}"""
_PASSWORD_WORDS = ("password", "passwd", "pwd", "passphrase", "密码", "口令")
_KEY_WORDS = ("api key", "apikey", "access key", "accesskey", "account key", "accountkey", "secret", "token")
_HAN_KEY_WORDS = ("密钥", "令牌")


def _assigned(kind: str, words: tuple[str, ...], is_real: Callable[[str], bool]) -> _Form:
    names = "|".join(word.replace(" ", "[ _-]") for word in words)
    pattern = re.compile(rf"(?:{names})(?:[_-]?(?:id|key|value|token))?{_ASSIGNS}(?:{_QUOTED}|{_BARE})", re.IGNORECASE)
    spelled = [word.replace(" ", joint) for word in words for joint in " _-"]
    return _Form(kind, tuple(dict.fromkeys(spelled)), pattern, is_real)


_FORMS = (
    _Form(
        "private_key",
        ("private key",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"[\s\S]*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
        _is_pem,
    ),
    _token("jwt", "eyj", r"eyJ[\w-]{10,}\.eyJ[\w-]{4,}\.[\w-]{10,}"),
    _token("api_key", "sk-", r"sk-[A-Za-z0-9_-]{20,}"),
    _token("aws_key", "akia asia", "(?:AKIA|ASIA)[A-Z0-9]{16}", least_bits=30),
    _token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", "gh[pousr]_[A-Za-z0-9]{36,}"),
    _token("github_token", "github_pat_", "github_pat_[A-Za-z0-9_]{22,}"),
    _token("slack_token", "xox xapp-", "(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}", least_bits=30),
    _token("google_key", "aiza", r"AIza[\w-]{35}"),
    _token("google_key", "gocspx-", r"GOCSPX-[\w-]{20,}"),
    _token("huggingface_token", "hf_", "hf_[A-Za-z0-9]{30,}"),
    _token("gitlab_token", "glpat-", r"glpat-[\w-]{20,}"),
    _token("alibaba_key", "ltai", "LTAI[A-Za-z0-9]{12,26}"),
    _token("tencent_key", "akid", "AKID[A-Za-z0-9]{13,40}"),
    _token("stripe_key", "sk_live_ rk_live_ sk_test_", "(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    _token("npm_token", "npm_", "npm_[A-Za-z0-9]{36}"),
    _token("telegram_token", ":aa", r"[0-9]{8,10}:AA[\w-]{32,33}"),
    _Form(
        "bearer_token",
        ("bearer",),
        re.compile(r"\bBearer\s+(?P<value>[A-Za-z0-9._~+/=-]{16,})", re.IGNORECASE),
        _is_random,
    ),
    _Form(
        "connection_string",
        ("://",),
        re.compile(
            r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@'\"<>]{0,64}:"
            r"(?P<value>[^\s/'\"<>\u3400-\u9fff]{1,128})@[A-Za-z0-9.\-_\[]"
        ),
        _is_given,
    ),
    _Form(
        "connection_string",
        ("password=", "pwd=", "accountkey="),
        re.compile(
            r"(?:Server|Data Source|Host|Endpoint|AccountName)\s*=[^;\n]{1,200};[^\"'\n]{0,300}?"
            r"(?:Password|Pwd|AccountKey)\s*=(?P<value>[^;\"'\s]{1,200})",
            re.IGNORECASE,
        ),
        _is_given,
    ),
    _assigned("password", _PASSWORD_WORDS, _is_password),
    _assigned("secret_value", _KEY_WORDS + _HAN_KEY_WORDS, _is_key_value),
)
KINDS: tuple[str, ...] = tuple(dict.fromkeys(form.kind for form in _FORMS))
_HINTS = tuple(dict.fromkeys(hint for form in _FORMS for hint in form.hints))


def _hinted(joint: str) -> tuple[str, ...]:
    return tuple(hint for hint in _HINTS if joint in hint and not any(sign in hint for sign in _SIGNS))


_SIGNS = ("key", "eyj", "akia", "asia", "xox", "aiza", "ltai", "akid", "bearer", "pass", "pwd", "secret", "token")
_BEHIND = {"_": _hinted("_"), "-": _hinted("-"), ":": _hinted(":")}
"""In every ASCII hint stands one of the signs, or it is listed behind a joint that it holds."""


def find_secrets(text: str, *, fast: bool = True) -> list[Span]:
    """The credentials in `text`, in order and without overlaps; kinds are those of KINDS.

    Of an assignment or a connection string only the value is the span. fast: an ASCII text, which folding leaves as
    it is, ends here where it has none of a few signs; False looks for all hints in every text.
    """
    if fast and text.isascii() and not _has_signs(text.lower()):
        return []
    folded = fold(text)
    lower = folded.text.lower()
    if not any(hint in lower for hint in _HINTS):
        return []
    found: list[Span] = []
    for form in _FORMS:
        if any(hint in lower for hint in form.hints):
            for start, end in _places(form, folded.text):
                span = folded.place(form.kind, start, end)
                if free(found, span.start, span.end):
                    found.append(span)
    return sorted(found, key=lambda span: span.start)


def _has_signs(lower: str) -> bool:
    """Whether one of the ASCII hints may stand in a lower-case text."""
    for sign in _SIGNS:
        if sign in lower:
            return True
    for joint, hints in _BEHIND.items():
        if joint in lower:
            for hint in hints:
                if hint in lower:
                    return True
    return False


def _places(form: _Form, text: str) -> Iterator[tuple[int, int]]:
    for match in form.pattern.finditer(text):
        groups = match.groupdict()
        name = next((name for name in ("value", "quoted", "bare") if groups.get(name)), None)
        value = match[name] if name else match[0]
        start = match.start(name) if name else match.start()
        if name == "bare":
            value = value.rstrip(".!?")
            if _IDENTIFIER.match(value) or "==" in match[0][: start - match.start()]:
                continue
        if form.is_real(value):
            yield start, start + len(value)
