"""Local translation models of Hugging Face: Marian, M2M100, NLLB, mBART, T5, or any other sequence-to-sequence model.

Light at import: torch and transformers come with the first model. Weights are safetensors only, no code of the model's
own is run, and the network is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError, ResourceError

_NLLB = {
    "zh": "zho_Hans",
    "en": "eng_Latn",
    "de": "deu_Latn",
    "fr": "fra_Latn",
    "es": "spa_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "ru": "rus_Cyrl",
}
_MBART = {
    "zh": "zh_CN",
    "en": "en_XX",
    "de": "de_DE",
    "fr": "fr_XX",
    "es": "es_XX",
    "ja": "ja_XX",
    "ko": "ko_KR",
    "ru": "ru_RU",
}
_SAMPLED_FROM = 20


def spellings(language: str) -> list[str]:
    """Tokens that may stand for a language in a model of many: NLLB's, mBART's and M2M100's way, in this order."""
    return [*(names[language] for names in (_NLLB, _MBART) if language in names), f"__{language}__"]


class TranslationModel:
    """One loaded model. codes: its own tokens for languages where `spellings` does not know them; batch_size: texts at
    a time; beams: of the most probable wording; max_new_tokens: limit of a translation."""

    def __init__(
        self, folder: Path, *, codes: Mapping[str, str], batch_size: int, beams: int, max_new_tokens: int
    ) -> None:
        self._codes, self._batch_size, self._beams, self._limit = dict(codes), batch_size, beams, max_new_tokens
        self._folder = folder
        self._model, self._tokenizer = _load(folder)
        config = self._model.config
        self._longest: int | None = getattr(config, "max_position_embeddings", None)

    def translate(self, texts: Sequence[str], source: str, target: str, *, draw: int = 0) -> list[str]:
        """One translation a text, in order; empty for a text longer than the model reads, and for a translation that
        has not ended after max_new_tokens: both would be cut silently.

        draw: 0 for the most probable wording, n for one sampled with seed n (from the 20 most probable tokens).
        Same texts, same draw, same machine: same translations.
        """
        import torch

        forced = self._set_languages(source, target)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found = [""] * len(texts)
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(draw)
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                for row, text in zip(rows, self._batch([texts[row] for row in rows], forced, draw), strict=True):
                    found[row] = text
        return found

    def _set_languages(self, source: str, target: str) -> int | None:
        """Tells the tokenizer the source; returns the id of the target's token, None for a model of one direction."""
        codes = [self._code(language) for language in (source, target)]
        if codes[0] and hasattr(self._tokenizer, "src_lang"):
            self._tokenizer.src_lang = codes[0].removeprefix("__").removesuffix("__")
        return self._id(codes[1]) if codes[1] else None

    def _code(self, language: str) -> str:
        if language in self._codes:
            if self._id(self._codes[language]) is None:
                raise ConfigError(
                    f"the model has no token '{self._codes[language]}'", where=str(self._folder), fix="check codes"
                )
            return self._codes[language]
        return next((code for code in spellings(language) if self._id(code) is not None), "")

    def _id(self, token: str) -> int | None:
        number = self._tokenizer.convert_tokens_to_ids(token)
        return None if number is None or number == self._tokenizer.unk_token_id else int(number)

    def _batch(self, texts: Sequence[str], forced: int | None, draw: int) -> list[str]:
        encoded = self._tokenizer(list(texts), return_tensors="pt", padding=True, truncation=False)
        ids, mask = encoded["input_ids"].to(self._model.device), encoded["attention_mask"].to(self._model.device)
        fits = [not self._longest or length <= self._longest for length in mask.sum(1).tolist()]
        if not any(fits):
            return [""] * len(texts)
        width = int(mask[fits].sum(1).max())
        ids, mask = (ids[fits][:, :width], mask[fits][:, :width]) if _pads_right(mask) else (ids[fits], mask[fits])
        output = self._generate(ids, mask, forced, draw)
        ended = iter(self._decoded(output))
        return [next(ended) if fit else "" for fit in fits]

    def _generate(self, ids: Any, mask: Any, forced: int | None, draw: int) -> Any:
        import torch

        how = {"do_sample": True, "top_k": _SAMPLED_FROM, "num_beams": 1} if draw else {"num_beams": self._beams}
        if forced is not None:
            how["forced_bos_token_id"] = forced
        try:
            return self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=self._limit, **{"do_sample": False, **how}
            )
        except torch.cuda.OutOfMemoryError:
            raise ResourceError(
                "the translation model does not fit into memory", where=str(self._folder), fix="lower batch_size"
            ) from None

    def _decoded(self, output: Any) -> list[str]:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        whole = [any(token in ends for token in row[1 : self._limit]) for row in output.tolist()]  # the last is forced
        texts = self._tokenizer.batch_decode(output, skip_special_tokens=True)
        return [text.strip() if is_whole else "" for text, is_whole in zip(texts, whole, strict=True)]


def _pads_right(mask: Any) -> bool:
    return bool(mask[:, 0].all())


def _load(folder: Path) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer). Raises MissingExtraError and ArtifactError."""
    if not any(folder.glob("*.safetensors")):
        unsafe = next(iter([*folder.glob("*.bin"), *folder.glob("*.pt*")]), None)
        problem = f"only {unsafe.name}, a pickle file, which can run code" if unsafe else "no weights at all"
        raise ArtifactError(f"the translation model has {problem}; safetensors is needed", where=str(folder))
    try:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"a translation model needs the library '{error.name}'", fix="pip install 'tunewright[train]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    is_gpu = torch.cuda.is_available()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model = AutoModelForSeq2SeqLM.from_pretrained(
            str(folder),
            dtype=torch.bfloat16 if is_gpu else torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        return model.to("cuda" if is_gpu else "cpu").eval(), tokenizer
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise ResourceError("the translation model does not fit into memory", where=str(folder)) from None
    except Exception as error:  # every library below raises its own classes
        text = str(error)
        if "sentencepiece" in text.lower() and find_spec("sentencepiece") is None:
            raise MissingExtraError(
                "this model's tokenizer needs the library 'sentencepiece'", fix="pip install sentencepiece"
            ) from None
        line = next(iter(text.splitlines()), type(error).__name__)
        raise ArtifactError(f"the translation model cannot be loaded: {line}", where=str(folder)) from error
