"""Where an answer's text ends and other things begin: thinking, remarks, corrections, a second question."""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUESTION_LABEL = re.compile(
    r"(?:^|(?<=[\n.!?。]))[ \t>#*\"-]*(?:Q(?:uestion)?|Problem|Exercise|Example|Human|User|Customer|Instruction|Input"
    r"|Next (?:question|problem)|New (?:question|problem)|Prompt|问题?|题目|例题?|下一[题道个]题?|另一[题道]题?"
    r"|用户|提问|练习|习题"
    r"|第[二三四五六]题|新题)\s*\d{0,3}\s*[:.)、]"
    r"|\s(?-i:Q):\s|<\|[^|>\n]{1,30}\|>|\[/?INST\]|<(?:user|human|question)>|### ?(?:Instruction|Input|User"
    r"|Question|问题|指令|用户)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:\bhow (?:many|much|long|far|old|tall|fast|often)\b|\bwhat(?:'s| is| was| are| were| will| fraction| percent)\b"
    r"|\bwhich\b|\bwhen\b|多少|几[^何]|求)[^.?!。\n]*\?"
    r"|(?:多少|求出?|几[个只本米元天年倍条支块辆人岁分次张棵页件头间克])[^.?!。\n]{0,12}[。?]",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"不对|错了|算错|更正|纠正|等等|等一下|重新(?:计算|算|来)|抱歉|\bwait\b|\bactually\b|\bcorrection\b"
    r"|\bsorry\b|\bmistake\b"
    r"|\bI mean\b|\bno[,.;-]\s|\bscratch that\b|\bhold on\b|\boops\b|\bhmm\b|\blet me (?:re|double)|应该是|应为|其实",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\bhope\b|\blet me know\b|\bfeel free\b|\bif you (?:have|need|want|would|like)|\bthanks?\b|\bmore help\b"
    r"|\banything else\b|\bnote(?: that)?\b|\btips?\b|\bcheck(?:ing)?\b|\bverif(?:y|ication)|\bthis (?:problem"
    r"|question|is a)"
    r"|\bI used\b|\bgood luck\b|\bhave a\b|希望|如果(?:你|您)|如有|欢迎|随时|谢谢|感谢|还有.{0,12}(?:吗|问题)"
    r"|^\s*\(?(?:注|备注|提示|说明)"
    r"|验证|检验|验算|考查|知识点|这道题|本题(?:考|主要|用)|祝|加油|继续|下次|\?\s*$|吗[。!?]?\s*$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[。!?！？\n]+|\.(?=\s|$|[\"')])|\.(?=[\u4e00-\u9fffA-Z])")
_SHORT = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|No|vs|approx|ans|etc|e\.g|i\.e)|^\s*\d{1,2})$", re.IGNORECASE)


def after_thinking(text: str) -> str:
    """What follows the last </think>; `plain` has taken other tags away."""
    return re.sub(r"</?think>", " ", text.rpartition("</think>")[2] if "</think>" in text else text)


def run_on(text: str) -> int:
    """Where a labelled second question or another speaker begins, once there is a number before it."""
    first = re.search(r"\d|[一二两三四五六七八九十百]", text)
    if first is None:
        return len(text)
    for label in _QUESTION_LABEL.finditer(text, first.end()):
        return label.start()
    return len(text)


def asks(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` puts a question, and is no correction of what was said."""
    return bool(_ASKS.search(text, start, end)) and not _CORRECTION.search(text, start, end)


def corrects(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` takes something back."""
    return bool(_CORRECTION.search(text, start, end))


def correction(text: str, start: int) -> int | None:
    """The end of the last words from `start` on that take something back, before a second question."""
    question = _ASKS.search(text, start)
    found = list(_CORRECTION.finditer(text, start, question.start() if question else len(text)))
    return found[-1].end() if found else None


def second_questions(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of lines that put a whole question of their own, with two numbers or more, after a line with a
    number that puts none. A question without numbers (How many are left?) is a step of the solution."""
    position, has_answer = 0, False
    for line in text.splitlines(keepends=True):
        asked = _ASKS.search(line)
        if asked and has_answer and not _CORRECTION.search(line):
            if len(re.findall(r"\d+", line[: asked.end()])) > 1:
                yield position, position + asked.end()
        elif not asked:
            has_answer = has_answer or any(letter.isdigit() for letter in line)
        position += len(line)


def is_remark(sentence: str) -> bool:
    """Whether a sentence is about the answer, a politeness or a question."""
    return bool(_REMARK.search(sentence))


def line_end(text: str, start: int) -> int:
    """The end of the line that holds `start`."""
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def paragraph_end(text: str, start: int) -> int:
    """The end of the paragraph that holds `start`; blank lines right behind `start` do not end it."""
    begin = start + len(text[start : start + 40]) - len(text[start : start + 40].lstrip())
    end = re.compile(r"\n\s*\n").search(text, begin)
    return end.start() if end else len(text)


def sentence_ends(text: str, start: int) -> Iterator[int]:
    """The ends of the sentences from `start` on."""
    for end in _SENTENCE_END.finditer(text, start):
        if not _SHORT.search(text, max(start, end.start() - 8), end.start()):
            yield end.end()
    yield len(text)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every sentence."""
    start = 0
    for end in sentence_ends(text, 0):
        if end > start:
            yield start, end
            start = end
