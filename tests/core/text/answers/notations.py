"""Numbers in every notation a solution may write them in, and sentences that announce an answer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

_DIGITS = "零一二三四五六七八九"
_WIDE = {ord(letter): chr(ord(letter) + 0xFEE0) for letter in "0123456789.,-/%"}

PHRASINGS_ZH = (
    "{}",
    "{}。",
    "答案是{}",
    "答案是{}。",
    "答案：{}",
    "答案为{}。",
    "答案: {}",
    "答案应该是{}。",
    "正确答案是{}。",
    "最终答案：{}",
    "最后的答案是{}。",
    "本题的答案是{}。",
    "所以答案是{}。",
    "因此，答案为{}。",
    "综上所述，最终结果是{}。",
    "答：{}",
    "答：一共有{}。",
    "答：还剩{}。",
    "所以一共是{}。",
    "结果等于{}。",
    "得数是{}。",
    "因此小明一共需要{}。",
    "**{}**",
    "答案是**{}**。",
    "### 答案\n\n**{}**",
    "答案是：\n\n{}",
    "答案是“{}”。",
    "【答案】{}",
    "答案是 {} 。希望对你有帮助！",
    "答案是{}。如果你还有其他3个问题，请告诉我。",
    "我们先算3+4=7，再算。所以答案是{}。",
    "1. 先求每天看的页数。\n2. 再求总数。\n答案：{}",
    "$\\boxed{{{}}}$",
    "所以答案是 $\\boxed{{{}}}$。",
    "解：设这个数为x，则 x = {}。",
    "| 项目 | 值 |\n| --- | --- |\n| 答案 | {} |",
    "<think>先试试5，不对。</think>答案是{}。",
    "{}就是答案。",
)
PHRASINGS_EN = (
    "{}",
    "The answer is {}.",
    "The answer is {}",
    "The final answer is {}.",
    "So the answer is {}.",
    "Therefore, the answer is: {}",
    "Answer: {}",
    "**Answer:** {}",
    "**Answer**: {}",
    "ANSWER = {}",
    "Ans: {}",
    "A: {}",
    "Final answer: {}",
    "### Final Answer\n\n{}",
    "#### {}",
    "First 3 + 4 = 7.\n#### {}",
    "The answer is **{}**.",
    "The answer is $\\boxed{{{}}}$.",
    "Thus, $x = {}$.",
    "The correct answer is {}. Hope this helps!",
    "The answer is {}. Let me know if you have 2 more questions!",
    "Step 1: 2 + 3 = 5\nStep 2: finish.\nAnswer: {}",
    "{} is the answer.",
    "The answer to question 4 is {}.",
    "My answer would be {}.",
    "The answer is {}\n\nQuestion: Tom has 5 pens and buys 7. How many?\nAnswer: 12",
)


def decimal(value: Fraction) -> str | None:
    """Up to 6 decimals, None where the value needs more."""
    if 10**6 % value.denominator:
        return None
    digits = f"{abs(value.numerator) * 10**6 // value.denominator:07d}"
    whole, rest = digits[:-6], digits[-6:].rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' if rest else ''}{rest}"


def grouped(value: Fraction, separator: str = ",") -> str | None:
    """1,234.5"""
    text = decimal(value)
    if text is None:
        return None
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}".replace(",", separator) + point + rest if whole != "-0" else None


def wide(value: Fraction) -> str | None:
    """１，２３４．５"""
    text = grouped(value)
    return text.translate(_WIDE) if text else None


def fraction(value: Fraction) -> str:
    """-7/2"""
    return f"{value.numerator}/{value.denominator}"


def mixed(value: Fraction) -> str | None:
    """3 1/2"""
    whole, rest = divmod(abs(value.numerator), value.denominator)
    if not whole or not rest:
        return None
    return f"{'-' if value < 0 else ''}{whole} {rest}/{value.denominator}"


def latex(value: Fraction) -> str:
    r"""-\frac{7}{2}"""
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def percent(value: Fraction) -> str | None:
    """350%"""
    text = decimal(value * 100)
    return f"{text}%" if text else None


def han_whole(number: int) -> str:
    """三百零五, written as it is taught in school."""
    if number >= 10**8:
        return _joined(number, 10**8, "亿")
    if number >= 10**4:
        return _joined(number, 10**4, "万")
    text, gap = "", False
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, size)
        if digit:
            text += ("零" if gap and text else "") + (
                "" if text == "" and unit == "十" and digit == 1 else _DIGITS[digit]
            )
            text, gap = text + unit, False
        else:
            gap = True
    return text or "零"


def _joined(number: int, size: int, unit: str) -> str:
    left, right = divmod(number, size)
    if not right:
        return han_whole(left) + unit
    rest = han_whole(right)
    rest = "一" + rest if rest.startswith("十") else rest
    return han_whole(left) + unit + ("零" if right < size // 10 else "") + rest


def han(value: Fraction) -> str | None:
    """负三百零五点二五"""
    text = decimal(abs(value))
    if text is None:
        return None
    whole, _, rest = text.partition(".")
    tail = "点" + "".join(_DIGITS[int(digit)] for digit in rest) if rest else ""
    return ("负" if value < 0 else "") + han_whole(int(whole)) + tail


def han_parts(value: Fraction) -> str | None:
    """三又二分之一"""
    if value.denominator == 1:
        return None
    whole, rest = divmod(abs(value.numerator), value.denominator)
    before = f"{han_whole(whole)}又" if whole else ""
    return f"{'负' if value < 0 else ''}{before}{han_whole(value.denominator)}分之{han_whole(rest)}"


def han_percent(value: Fraction) -> str | None:
    """百分之三十五"""
    text = han(value * 100)
    return f"百分之{text}" if text and value > 0 else None


def parts(value: Fraction) -> str | None:
    """2分之7"""
    return f"{value.denominator}分之{value.numerator}" if value > 0 and value.denominator > 1 else None


def wan(value: Fraction) -> str | None:
    """1.2万"""
    text = decimal(value / 10**4)
    return f"{text}万" if text and value else None


def yi_wan(value: Fraction) -> str | None:
    """3亿5000万"""
    yi, rest = divmod(value, 10**8)
    count, left = divmod(rest, 10**4)
    return f"{yi}亿{count}万" if value > 0 and yi and count >= 1000 and not left else None


def scientific(value: Fraction) -> str | None:
    """1.25×10^3"""
    text = decimal(value / 1000)
    return f"{text}×10^3" if text else None


def exponent(value: Fraction) -> str | None:
    """1.25e3"""
    text = decimal(value / 1000)
    return f"{text}e3" if text else None


def minus_sign(value: Fraction) -> str | None:
    """−5, with the mathematical sign"""
    text = decimal(value)
    return text.replace("-", "\u2212") if text and value < 0 else None


def money(value: Fraction) -> str | None:
    """$1,234.50"""
    text = decimal(value)
    if text is None or len(text.partition(".")[2]) > 2:
        return None
    return f"{'-' if value < 0 else ''}${float(abs(value)):,.2f}"


def yuan(value: Fraction) -> str | None:
    """￥12.5元"""
    text = decimal(value)
    return f"￥{text}元" if text and value >= 0 else None


def with_unit(value: Fraction) -> str | None:
    """12.5km/h"""
    text = decimal(value)
    return f"{text}km/h" if text else None


def measured(value: Fraction) -> str | None:
    """12.5千克"""
    text = decimal(value)
    return f"{text}千克" if text else None


NOTATIONS: tuple[Callable[[Fraction], str | None], ...] = (
    decimal, grouped, wide, fraction, mixed, latex, percent, han, han_parts, han_percent, parts, wan, yi_wan,
    scientific, exponent, minus_sign, money, yuan, with_unit, measured,
)  # fmt: skip
