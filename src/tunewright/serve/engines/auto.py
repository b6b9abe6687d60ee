"""The engine `auto`: picks one of the others for what is served, and says why."""

from __future__ import annotations

from tunewright.core.errors import MissingExtraError
from tunewright.models import llama_program
from tunewright.serve.choose import Choice
from tunewright.serve.engines import vllm
from tunewright.serve.engines.config import AutoOptions, LlamaCppOptions, TransformersOptions, VllmOptions
from tunewright.serve.engines.http_engine import Place
from tunewright.serve.engines.in_process import Transformers
from tunewright.serve.engines.llama_cpp import LlamaCpp
from tunewright.serve.fleet import RunningEngine


class Auto:
    """Makes an engine of the kind that fits the choice."""

    wants = "any"

    def __init__(self, options: AutoOptions) -> None:
        self._python = options.python
        self._others: dict[str, Transformers | LlamaCpp | vllm.Vllm] = {
            "transformers": Transformers(TransformersOptions()),
            "llamacpp": LlamaCpp(LlamaCppOptions()),
            "vllm": vllm.Vllm(VllmOptions(python=options.python)),
        }
        if not llama_program.is_present():
            self.wants = "weights"

    def make(self, choice: Choice, place: Place) -> RunningEngine:
        """An engine, not started; which and why is said."""
        name, why = self.pick(choice, has_cuda=has_cuda())
        place.say(f"serve: engine {name}: {why}")
        return self._others[name].make(choice, place)

    def pick(self, choice: Choice, *, has_cuda: bool) -> tuple[str, str]:
        """(name, why) of the engine for `choice`."""
        if choice.is_gguf:
            return "llamacpp", "the variant is a GGUF file"
        if not has_cuda:
            return "transformers", "there is no CUDA device here"
        if choice.info.kind == "adapter" and choice.info.method != "lora":
            return "transformers", f"vLLM takes no adapter of the method {choice.info.method}"
        try:
            python = vllm.python_of(self._python)
        except MissingExtraError as error:
            if self._python:
                raise
            return "transformers", f"{error.problem}; serve.engine {{name: vllm, python: ...}} would use the GPU better"
        return "vllm", f"there is a CUDA device, and vLLM in {python}"


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()
