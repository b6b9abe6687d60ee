"""One spelling of a text before numbers are looked for: half-width digits and signs, LaTeX and Markdown taken off."""

from __future__ import annotations

import re
import unicodedata

_BLANKS = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_MINUS = "\u2010\u2011\u2012\u2013\u2212\ufe63"
_QUOTES = "“”„«»「」『』【】〔〕"
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\u20e3\ufe0f\ufeff]")
_TABLE: dict[int, str | None] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, _BLANKS), " "),
    **dict.fromkeys(map(ord, _MINUS), "-"),
    **dict.fromkeys(map(ord, _QUOTES), '"'),
    **{ord("︰"): ":", ord("∶"): ":", ord("﹪"): "%", ord("＇"): "'", ord("’"): "'", ord("‘"): "'", ord("⁄"): "/",
       ord("∕"): "/", ord("￥"): "¥", ord("￡"): "£", ord("\r"): "\n", ord("•"): "·"},
}  # fmt: skip
_FRACTIONS = re.compile("(?P<before>[0-9])?(?P<sign>[\u00bc-\u00be\u2150-\u215e\u2189])")
_OTHER_DIGITS = re.compile(r"[^\D0-9]")
_POWER = re.compile(r"(?<=10)[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_RAISED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_QUOTED = re.compile(r"(?m)^[ \t]*(?:>[ \t]*)+(?=[^\s=])")
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_MARKUP = re.compile(
    r"</?(?:b|i|u|em|strong|span|sub|sup|p|div|code|mark|answer|li|ul|ol|td|tr|th)\b[^<>\n]*>|</?think>"
)
_BREAK = re.compile(r"<br\s*/?>")
_CROSSED_OUT = re.compile(r"~~[^~\n]+~~|<(?:s|del)>.*?</(?:s|del)>")
_STRONG = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)|(?<!\w)__(?=\S)|(?<=\S)__(?!\w)|`+")
_EMPHASIS = re.compile(r"(?<![\d)*])(?<![\d)] )\*(\S[^*\n]*?\S|\S)\*(?! ?[\d(*])")

_BRACES = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_FRACTION = re.compile(rf"\\[dtc]?frac\s*{_BRACES}\s*{_BRACES}")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)(?!\d)")
_LETTERED = re.compile(
    rf"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|bm|boldsymbol)\s*{_BRACES}"
)
_SIGNS = (
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\[,;: ]|\\q?quad\b"), " "),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "×"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"\\(?:approx|thickapprox|simeq)(?![A-Za-z])"), "≈"),
    (re.compile(r"\\(?:ne|neq)(?![A-Za-z])"), "≠"),
    (re.compile(r"\\pi(?![A-Za-z])"), "π"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])"), "°"),
    (re.compile(r"\\pm(?![A-Za-z])"), "±"),
    (re.compile(r"\\sqrt(?![A-Za-z\[])\s*\{?"), "√"),
    (re.compile(r"\\(?:left|right|displaystyle|limits|big|Big|therefore|because)(?![A-Za-z])"), " "),
    (re.compile(r"\\[()\[\]]"), " "),
    (re.compile(r"\\{2,}"), "\n"),
)
_SIMPLE = re.compile(r"[\s\d.,]*\d[\s\d.,]*")


def plain(text: str) -> str:
    """`text` with full-width signs, other scripts' digits, ½ and 10⁵ in ASCII, without LaTeX commands, Markdown
    emphasis, calculator notes (<<3+4=7>>) and struck-out text. Lines stay lines."""
    if not text.isascii():
        text = _half_width(text)
    text = _CALCULATOR.sub("", _QUOTED.sub("", text) if ">" in text else text).replace("{,}", ",")
    if "\\" in text:
        text = latex(text)
    if "<" in text:
        text = _MARKUP.sub(" ", _BREAK.sub("\n", _CROSSED_OUT.sub(" ", text)))
    elif "~~" in text:
        text = _CROSSED_OUT.sub(" ", text)
    if "*" in text or "`" in text or "__" in text:
        text = _EMPHASIS.sub(r"\1", _STRONG.sub("", text))
    return text


def _half_width(text: str) -> str:
    text = _INVISIBLE.sub("", text).translate(_TABLE)
    text = _OTHER_DIGITS.sub(lambda found: str(unicodedata.decimal(found[0])), text)
    text = _POWER.sub(lambda found: "^" + found[0].translate(_RAISED), text)
    return _FRACTIONS.sub(_spelled_fraction, text)


def _spelled_fraction(found: re.Match[str]) -> str:
    """3½ -> 3 1/2."""
    above, _, below = unicodedata.normalize("NFKC", found["sign"]).partition("\u2044")
    return f"{found['before']} {above}/{below}" if found["before"] else f"{above}/{below}"


def latex(text: str) -> str:
    r"""LaTeX commands around numbers as plain signs: 1\dfrac{1}{2} -> 1 1/2, \text{km} -> km, 20\% -> 20%."""
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text)
    for _ in range(3):  # \text in \frac in \text
        text = _LETTERED.sub(r" \1", text)
        text = _FRACTION.sub(_slashed, text)
    for pattern, sign in _SIGNS:
        text = pattern.sub(sign, text)
    return text


def _slashed(found: re.Match[str]) -> str:
    above, below = found[1].strip(), found[2].strip()
    gap = " " if found.start() and found.string[found.start() - 1].isdigit() else ""
    if _SIMPLE.fullmatch(above) and _SIMPLE.fullmatch(below):
        return f"{gap}{above}/{below}"
    if _SIMPLE.fullmatch(below) and above.startswith("-") and _SIMPLE.fullmatch(above[1:]):
        return f"{gap}{above}/{below}"
    return f"{gap}({above})/({below})"


_BOX_OR_BRACE = re.compile(r"\\f?box(?:ed)?\s*\{|[{}]")


def boxed(text: str) -> list[tuple[int, int, int]]:
    r"""Every \boxed{...} as (start, start of the inside, end of the inside), in order; braces inside are matched, and
    one that is never closed reaches to the end."""
    found: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, int] | None] = []
    for mark in _BOX_OR_BRACE.finditer(text):
        if mark[0] != "}":
            waiting.append((mark.start(), mark.end()) if mark[0] != "{" else None)
        elif waiting and (begun := waiting.pop()):
            found.append((*begun, mark.start()))
    found += [(*begun, len(text)) for begun in waiting if begun]
    return sorted(found)
