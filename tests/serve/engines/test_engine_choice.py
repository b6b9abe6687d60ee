"""How the project file names an engine, which artifact it then serves, and what `auto` picks and says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import artifact_kit as made
import pytest
from pydantic import ValidationError

from tunewright.core.config import read_yaml, validate
from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError
from tunewright.core.runs import Workspace
from tunewright.models import llama_program
from tunewright.serve.choose import choose
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines import vllm
from tunewright.serve.engines.auto import Auto
from tunewright.serve.engines.config import ENGINES, AutoOptions, LlamaCppOptions, TransformersOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.engines.in_process import Transformers
from tunewright.serve.engines.llama_cpp import LlamaCpp

GGUF = made.row("gguf-q8_0", 200.0, engine="llama.cpp")
INT8 = made.row("int8", 35.5)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, "bank")


@pytest.mark.parametrize("name", ["auto", "transformers", "llamacpp", "vllm"])
def test_a_word_is_the_engine_with_its_defaults(name: str) -> None:
    config = ServeConfig.model_validate({"engine": name})
    assert config.engine == ENGINES.options(name)(name=name)


def test_a_mapping_has_options_and_faults_have_lines() -> None:
    data, lines = read_yaml("engine: {name: remote, url: http://box/v1, honours: [seed]}\n", "p.yaml")
    config: Any = validate(ServeConfig, data, lines, "p.yaml")
    assert config.engine.url == "http://box/v1" and config.engine.honours == ("seed",)
    for text, words in {
        "engine: torch\n": "p.yaml:1: engine: unknown name 'torch'",
        "engine: {name: llamacpp, contxt: 9}\n": "did you mean 'context'",
        "engine: remote\n": "url: this key is required",
        "engine: {name: llamacpp, context: 5}\n": "greater than or equal to 128",
    }.items():
        data, lines = read_yaml(text, "p.yaml")
        with pytest.raises(ConfigError, match=words):
            validate(ServeConfig, data, lines, "p.yaml")
    with pytest.raises(ValidationError, match="serves no registered models"):
        ServeConfig.model_validate({"engine": {"name": "remote", "url": "http://box/v1"}, "models": ["a"]})


@pytest.mark.parametrize("name", sorted(ENGINES.entries))
def test_every_engine_says_what_it_opens(name: str) -> None:
    given = {"url": "http://box/v1"} if name == "remote" else {}
    maker = ENGINES.target(name)(ENGINES.options(name)(name=name, **given))
    assert maker.wants in ("weights", "gguf", "any", "nothing")
    assert ENGINES.options(name).__doc__


def test_what_is_served_depends_on_the_engine(workspace: Workspace) -> None:
    quantized = made.quantize(workspace, made.train(workspace), [INT8, GGUF])
    assert choose(workspace, made.MODEL).variant == "int8"
    gguf = choose(workspace, made.MODEL, wants="gguf")
    assert gguf.variant == "gguf-q8_0" and gguf.is_gguf and "for llama.cpp, 200.0 tokens/s" in gguf.sentence
    assert choose(workspace, made.MODEL, wants="any").variant == "int8", "weights come first"
    named = choose(workspace, made.MODEL, source_directory=quantized.path / "gguf-q8_0", wants="any")
    assert named.is_gguf
    with pytest.raises(ArtifactError, match="this is none: int8"):
        choose(workspace, made.MODEL, source_directory=quantized.path / "int8", wants="gguf")
    with pytest.raises(ArtifactError, match=r"served by llama\.cpp"):
        named.load()


def test_without_accepted_weights_auto_takes_the_gguf(workspace: Workspace) -> None:
    made.quantize(workspace, made.train(workspace), [INT8 | {"accepted": False}, GGUF])
    assert choose(workspace, made.MODEL, wants="any").variant == "gguf-q8_0"
    assert choose(workspace, made.MODEL).variant == "tuned"


def test_llama_cpp_without_a_gguf_says_how_to_get_one(workspace: Workspace) -> None:
    made.train(workspace)
    with pytest.raises(ArtifactError, match=r"this is none: tuned") as caught:
        choose(workspace, made.MODEL, wants="gguf")
    assert "gguf-q8_0" in caught.value.fix


def test_files_are_checked_before_they_are_opened(workspace: Workspace) -> None:
    made.quantize(workspace, made.train(workspace), [INT8])
    choice = choose(workspace, made.MODEL)
    files = choice.files()
    assert files.folder.name == "int8" and files.gguf is None and files.tokenizer.end_ids
    other = made.quantize(workspace, made.train(workspace, number=2), [INT8], chat_template_sha256="1" * 64)
    with pytest.raises(ArtifactError, match="chat template differs"):
        choose(workspace, made.MODEL, source_directory=other.path / "int8").files()


class Here:
    """A choice as `auto` looks at it."""

    def __init__(self, *, gguf: bool = False, kind: str = "full", method: str = "full") -> None:
        self.is_gguf, self.info = gguf, made.info(kind, method=method)


def test_auto_picks_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("")
    auto: Any = Auto(AutoOptions(python=str(python)))
    assert auto.pick(Here(gguf=True), has_cuda=True) == ("llamacpp", "the variant is a GGUF file")
    assert auto.pick(Here(), has_cuda=False) == ("transformers", "there is no CUDA device here")
    name, why = auto.pick(Here(), has_cuda=True)
    assert name == "vllm" and str(python) in why
    assert auto.pick(Here(kind="adapter", method="lora"), has_cuda=True)[0] == "vllm"
    name, why = auto.pick(Here(kind="adapter", method="prefix"), has_cuda=True)
    assert name == "transformers" and "prefix" in why
    bare: Any = Auto(AutoOptions())
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    name, why = bare.pick(Here(), has_cuda=True)
    assert name == "transformers" and "needs a Python that has vLLM" in why
    wrong: Any = Auto(AutoOptions(python=str(tmp_path / "nowhere")))
    with pytest.raises(MissingExtraError, match="no such Python"):
        wrong.pick(Here(), has_cuda=True)


def test_auto_without_llama_cpp_does_not_choose_a_gguf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_program, "is_present", lambda: False)
    assert Auto(AutoOptions()).wants == "weights"


def test_makers_refuse_what_their_engine_does_not_open(workspace: Workspace) -> None:
    quantized = made.quantize(workspace, made.train(workspace), [INT8, GGUF])
    said: list[str] = []
    place = Place(2, 2, said.append)
    gguf = choose(workspace, made.MODEL, source_directory=quantized.path / "gguf-q8_0", wants="any")
    weights = choose(workspace, made.MODEL)
    with pytest.raises(ArtifactError, match=r"served by llama\.cpp"):
        Transformers(TransformersOptions()).make(gguf, place)
    with pytest.raises(ArtifactError, match="this one is none"):
        LlamaCpp(LlamaCppOptions()).make(weights, place)
    if llama_program.is_present():
        assert isinstance(Auto(AutoOptions()).make(gguf, place), UpstreamEngine)
        assert said == ["serve: engine llamacpp: the variant is a GGUF file"]
