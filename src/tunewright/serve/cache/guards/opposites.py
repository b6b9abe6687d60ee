"""Pairs of opposites, and words that a prefix turns round."""

from __future__ import annotations

import re
from collections.abc import Hashable

from tunewright.core.text.fold import fold
from tunewright.serve.cache.guards.spotting import always, spot

_PAIRS: dict[str, tuple[str, str]] = {
    "open": (
        "open create activate enable register start unlock unblock unfreeze resume subscribe sign_up turn_on switch_on"
        " set_up add join 开通 开户 开启 开立 打开 激活 启用 注册 解锁 解冻 恢复 订阅 添加 绑定",
        "close delete cancel cancellation deactivate disable end terminate unsubscribe lock block freeze frozen suspend"
        " turn_off switch_off remove leave 关闭 关掉 销户 注销 取消 停用 停止 终止 冻结 锁定 退订 禁用 删除 移除 解绑",
    ),
    "buy": ("buy bought purchase 购买 买入 购入 申购 买", "sell sold 出售 卖出 售出 赎回 卖"),
    "pay in": (
        "deposit pay_in top_up 存款 存入 转入 充值 存",
        "withdraw withdrawal withdrew withdrawn take_out cash_out 取款 取出 提现 转出 取",
    ),
    "send": ("send sent 汇出 付款 支付 发送 发出 寄", "receive 收款 接收 收到 汇入 收"),
    "lend": ("lend lent 借出 放贷", "borrow 借入 借款 借贷"),
    "repay": ("repay repaid repayment pay_back pay_off 还款 偿还 归还 还清", ""),
    "more": (
        "increase raise rise grow more high maximum max most large upgrade above over at_least 增加 提高 上升 上涨 升高"
        " 上调 最高 最多 最大 上限 升级 大于 高于 超过 以上 多于 至少 涨",
        "decrease reduce low lower drop fall less fewer minimum min least small downgrade below under at_most 减少 降低"
        " 下降 下跌 下调 最低 最少 最小 下限 降级 小于 低于 以下 少于 至多 不足 跌",
    ),
    "before": (
        "before prior early earlier until in_advance 之前 以前 提前 提早",
        "after afterwards following late since overdue 之后 以后 推迟 延后 逾期",
    ),
    "from": ("from 从 来自", ""),
    "only": ("only 仅 只", ""),
    "all": ("all every each both 全部 所有 每", "some any 部分 某些 任何 任意"),
    "must": ("must have_to has_to need_to needs_to require mandatory 必须 务必 一定要 需要", ""),
    "should": ("should ought 应该 应当", ""),
    "home": (
        "domestic national 国内 境内",
        "international foreign abroad overseas cross-border 国外 境外 海外 国际 跨境",
    ),
    "debit": ("debit 借记 储蓄", "credit 贷记 信用"),
    "private": ("personal private 个人 私人", "business corporate company public 企业 公司 对公 公共"),
    "fixed": ("fixed 定期 固定", "variable floating flexible 活期 浮动"),
    "good": (
        "good better best safe allow legal accept approve approval succeed success successful advantage pros benefit"
        " gain profit 安全 允许 合法 接受 同意 批准 通过 成功 优点 好处 盈利",
        "bad worse worst dangerous risky illegal disadvantage cons drawback loss 危险 违法 非法 缺点 坏处 亏损",
    ),
    "long": ("long 长期 长", "short 短期 短"),
    "new": ("new young 新", "old 旧"),
    "fast": ("fast quick quickly 快", "slow slowly 慢"),
    "cheap": ("cheap 便宜", "expensive 贵"),
    "hot": ("hot warm heat 热", "cold cool 冷"),
    "first": ("first begin beginning 开始", "last final finally 最后 结束"),
    "in": ("inside incoming inbound import 进口", "outside outgoing outbound export 出口"),
    "left": ("left 左", "right 右"),
    "man": ("male man men husband father 男", "female woman women wife mother 女"),
    "adult": ("adult parent 成人 成年", "child children kid infant baby babies 儿童 孩子 婴儿 未成年"),
}
"""Two words of one side need not mean the same; two of different sides surely do not. `_` is a blank."""


def _forms(word: str) -> str:
    """A Latin word with its usual endings (stop, stops, stopped); a Han word as it is."""
    if not word.isascii():
        return word
    if word.endswith("e"):
        return rf"\b{word[:-1]}(?:e|es|ed|ing|er|ers)\b"
    if "_" in word:
        head, _, rest = word.partition("_")
        return rf"\b{head}(?:{head[-1]})?(?:s|ed|ing)? {rest}\b"
    return rf"\b{word}(?:{word[-1]})?(?:s|es|ed|ing|er|ers|est)?\b"


def _pattern(words: str) -> re.Pattern[str]:
    longest_first = sorted(words.split(), key=len, reverse=True)
    return re.compile("|".join(map(_forms, longest_first)) or "(?!)", re.IGNORECASE)


_POLES = [
    (_pattern(words), always((name, side)))
    for name, sides in _PAIRS.items()
    for side, words in zip("+-", sides, strict=True)
]
_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis", "mis", "de", "anti", "re", "over", "under", "pre", "post")
_WORD = re.compile(r"[a-z]{3,}")


def poles(text: str) -> frozenset[Hashable]:
    """Which sides of which pairs the text names; each side is looked for by itself."""
    folded = fold(text).text
    return frozenset(pole for kind in _POLES for pole in spot(folded, [kind])[0])


def prefixed_apart(asked: str, kept: str) -> bool:
    """Whether a word of one stands in the other with a prefix that changes it: authorised, unauthorised."""
    one, two = (frozenset(_WORD.findall(fold(text).text.lower())) for text in (asked, kept))
    return any(
        f"{prefix}{word}" in there and f"{prefix}{word}" not in here
        for here, there in ((one, two), (two, one))
        for word in here - there
        for prefix in _PREFIXES
    )
