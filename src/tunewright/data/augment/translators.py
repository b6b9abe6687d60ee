"""Who translates for back-translation: a chat endpoint, a Hugging Face model or a CTranslate2 model in a folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError
from tunewright.data.augment.augmenter import derived
from tunewright.data.augment.chat_client import ChatClient, Request
from tunewright.data.augment.options import CTranslate2Options, EndpointOptions, HuggingFaceOptions
from tunewright.data.augment.prompts import read_answer, translate_prompt
from tunewright.models.translate import TranslationModel, spellings

_WHERE = "data.augment (back_translation)"
_SAMPLING_TEMPERATURE = 0.8
_SAMPLED_FROM = 20
ANY = "any"
"""The key of a model that translates in all directions."""


@runtime_checkable
class Translator(Protocol):
    """A plug-in of the registry `translators`, constructed from its options and the project's root folder."""

    def translate(self, texts: Sequence[str], source: str, target: str, *, draw: int = 0) -> list[str]:
        """One translation a text, in order; empty where it did not end within its limit.

        source, target: codes such as zh; draw: 0 for the most probable wording, n for the n-th sampled one.
        """
        ...


class EndpointTranslator:
    """The backend `endpoint`."""

    def __init__(self, options: EndpointOptions, root: Path) -> None:
        self._client = ChatClient(options.server, where=_WHERE)

    def translate(self, texts: Sequence[str], source: str, target: str, *, draw: int = 0) -> list[str]:
        """One request a text. Raises ConfigError and ResourceError like `ChatClient.ask`."""
        prompt = translate_prompt(source, target)
        temperature = _SAMPLING_TEMPERATURE if draw else 0.0
        seeds = [derived(draw, source, target, text) for text in texts]
        answers = self._client.ask(
            [Request(prompt, text, temperature, seed) for text, seed in zip(texts, seeds, strict=True)]
        )
        return [read_answer(answer, text) for answer, text in zip(answers, texts, strict=True)]


class _Folders:
    """Opens the model of a direction when it is first needed."""

    def __init__(self, models: Mapping[str, str], root: Path, open_folder: Callable[[Path], Any]) -> None:
        if not models:
            raise ConfigError(
                "no translation model is named", where=_WHERE, fix="set backend.models, {zh-en: DIR, en-zh: DIR}"
            )
        self._folders = {key: root / Path(folder).expanduser() for key, folder in models.items()}
        for folder in self._folders.values():
            if not folder.is_dir():
                raise ConfigError("there is no such model folder", where=str(folder), fix="check backend.models")
        self._open, self._opened = open_folder, dict[Path, Any]()

    def model(self, source: str, target: str) -> Any:
        key = f"{source}-{target}"
        folder = self._folders.get(key) or self._folders.get(ANY)
        if folder is None:
            known = ", ".join(sorted(self._folders))
            raise ConfigError(
                f"no model translates {key}; there are: {known}", where=_WHERE, fix=f"set backend.models.{key}"
            )
        if folder not in self._opened:
            self._opened[folder] = self._open(folder)
        return self._opened[folder]


class HuggingFaceTranslator:
    """The backend `huggingface`; its libraries are imported with the first model."""

    def __init__(self, options: HuggingFaceOptions, root: Path) -> None:
        self._options = options
        self._folders = _Folders(options.models, root, self._load)

    def _load(self, folder: Path) -> Any:
        options = self._options
        return TranslationModel(
            folder,
            codes=options.codes,
            batch_size=options.batch_size,
            beams=options.beams,
            max_new_tokens=options.max_new_tokens,
        )

    def translate(self, texts: Sequence[str], source: str, target: str, *, draw: int = 0) -> list[str]:
        """Raises ConfigError (no model for the direction) and ArtifactError (a model that cannot be loaded)."""
        if not texts:
            return []
        prefix = self._options.prefixes.get(f"{source}-{target}", "")
        model = self._folders.model(source, target)
        answers: list[str] = model.translate([prefix + text for text in texts], source, target, draw=draw)
        return answers


class CTranslate2Translator:
    """The backend `ctranslate2`."""

    def __init__(self, options: CTranslate2Options, root: Path) -> None:
        self._options = options
        self._library = _library("ctranslate2")
        self._folders = _Folders(options.models, root, self._load)

    def _load(self, folder: Path) -> tuple[Any, _Pieces, Path]:
        if not (folder / "model.bin").is_file():
            raise ArtifactError(
                "the folder holds no model.bin", where=str(folder), fix="convert it with ct2-transformers-converter"
            )
        return self._opened(folder), _pieces(folder), folder

    def _opened(self, folder: Path) -> Any:
        options = self._options
        try:
            return self._library.Translator(str(folder), device=options.device, compute_type=options.compute_type)
        except (RuntimeError, ValueError) as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise ArtifactError(f"CTranslate2 cannot open the model: {line}", where=str(folder)) from error

    def translate(self, texts: Sequence[str], source: str, target: str, *, draw: int = 0) -> list[str]:
        """Raises ConfigError (no model for the direction) and ArtifactError (a folder that holds no model).

        Same texts and same draw, same translations: the library's random generator belongs to a thread of its pool and
        takes the seed when the thread first draws, so every draw gets a pool of its own.
        """
        if not texts:
            return []
        model, pieces, folder = self._folders.model(source, target)
        options = self._options
        codes = [_code(pieces, language, options.codes) for language in (source, target)]
        tokens = [[*([codes[0]] if codes[0] else []), *pieces.split(text)] for text in texts]
        prefix = [[codes[1]]] * len(texts) if codes[1] else None
        if draw:
            self._library.set_random_seed(derived(draw, source, target) % 2**31)
            model = self._opened(folder)
        try:
            results = model.translate_batch(
                tokens,
                target_prefix=prefix,
                max_batch_size=options.batch_size,
                beam_size=1 if draw else options.beams,
                sampling_topk=_SAMPLED_FROM if draw else 1,
                max_decoding_length=options.max_new_tokens,
                max_input_length=0,
            )
        except (RuntimeError, ValueError) as error:  # what the library raises for texts and settings it cannot take
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise ArtifactError(f"CTranslate2 cannot translate {source}-{target}: {line}", where=_WHERE) from error
        return [self._text(result.hypotheses[0], codes[1], pieces) for result in results]

    def _text(self, tokens: list[str], code: str, pieces: _Pieces) -> str:
        if len(tokens) >= self._options.max_new_tokens:
            return ""
        return pieces.join(tokens[1:] if code and tokens[:1] == [code] else tokens)


class _Pieces(Protocol):
    def split(self, text: str) -> list[str]: ...

    def join(self, tokens: list[str]) -> str: ...

    def knows(self, token: str) -> bool: ...


class _TokenizerPieces:
    """tokenizer.json, through the library tokenizers."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        self._special = {
            token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special
        }
        self._end = next((token for token in ("</s>", "<eos>", "<|endoftext|>") if self.knows(token)), "")

    def split(self, text: str) -> list[str]:
        tokens = self._tokenizer.encode(text, add_special_tokens=False).tokens
        return [*tokens, self._end] if self._end else list(tokens)

    def join(self, tokens: list[str]) -> str:
        ids = [self._tokenizer.token_to_id(token) for token in tokens if token not in self._special]
        return str(self._tokenizer.decode([number for number in ids if number is not None])).strip()

    def knows(self, token: str) -> bool:
        return self._tokenizer.token_to_id(token) is not None


class _SentencePieces:
    """source.spm and target.spm, through the library sentencepiece (Marian)."""

    def __init__(self, folder: Path) -> None:
        library = _library("sentencepiece")
        self._source = library.SentencePieceProcessor(model_file=str(folder / "source.spm"))
        self._target = library.SentencePieceProcessor(model_file=str(folder / "target.spm"))

    def split(self, text: str) -> list[str]:
        return [*self._source.encode(text, out_type=str), "</s>"]

    def join(self, tokens: list[str]) -> str:
        return str(self._target.decode([token for token in tokens if token != "</s>"])).strip()  # noqa: S105

    def knows(self, token: str) -> bool:
        return False


def _pieces(folder: Path) -> _Pieces:
    if (folder / "tokenizer.json").is_file():
        return _TokenizerPieces(folder / "tokenizer.json")
    if (folder / "source.spm").is_file() and (folder / "target.spm").is_file():
        return _SentencePieces(folder)
    raise ArtifactError(
        "the folder holds neither tokenizer.json nor source.spm and target.spm",
        where=str(folder),
        fix="copy them from the original model beside model.bin",
    )


def _code(pieces: _Pieces, language: str, codes: Mapping[str, str]) -> str:
    """The model's token for a language; empty for a model of one direction."""
    wanted = [codes[language]] if language in codes else spellings(language)
    return next((code for code in wanted if pieces.knows(code)), "")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"this translation backend needs the library '{name}', which is not installed", fix=f"pip install {name}"
        ) from None
