#!/bin/sh
# Makes an environment with LLaMA-Factory beside this one: `sh benchmarks/setup/llamafactory.sh FOLDER`, then
# `--llamafactory FOLDER/bin/python`. It has the newest transformers, peft, accelerate and datasets that LLaMA-Factory
# allows. torchaudio, which has no wheel for the CPU's torch here, is an empty module: LLaMA-Factory imports it for speech.
. "$(dirname "$0")/beside.sh"
"$folder/bin/pip" install --quiet --no-deps "llamafactory==0.9.5" "transformers==5.6.0" "peft==0.18.1" \
    "accelerate==1.11.0" "datasets==4.0.0" "trl==0.24.0" "tyro==0.8.14" "torchdata==0.11.0" "tokenizers==0.22.2" \
    "huggingface_hub>=1.3,<1.7" "antlr4-python3-runtime==4.9.3" omegaconf fire termcolor shtab docstring-parser \
    typeguard modelscope sse-starlette
mkdir -p "$inside/torchaudio"
echo '"""Imported for speech, which is not trained here."""' > "$inside/torchaudio/__init__.py"
"$folder/bin/python" -c "
import transformers
from llamafactory.train import tuner
print('LLaMA-Factory 0.9.5, transformers', transformers.__version__)"
