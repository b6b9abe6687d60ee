#!/bin/sh
# Makes an environment with LLaMA-Factory beside this one: `sh benchmarks/setup/llamafactory.sh FOLDER`, then
# `--llamafactory FOLDER/bin/python`. It has the newest transformers, peft, accelerate and datasets that LLaMA-Factory
# allows; torch and what else both need is that of the Python that runs this.
set -eu
folder="$1"
python="${PYTHON:-python}"
"$python" -m venv "$folder"
packages=$("$python" -c "import site; print(site.getsitepackages()[0])")
inside=$("$folder/bin/python" -c "import site; print(site.getsitepackages()[0])")
echo "$packages" > "$inside/base.pth"
"$folder/bin/pip" install --quiet --no-deps "llamafactory==0.9.5" "transformers==5.6.0" "peft==0.18.1" \
    "accelerate==1.11.0" "datasets==4.0.0" "trl==0.24.0" "tyro==0.8.14" "torchdata==0.11.0" \
    omegaconf "antlr4-python3-runtime==4.9.3" fire termcolor shtab docstring-parser typeguard modelscope sse-starlette
"$folder/bin/python" -c "import llamafactory, transformers; from llamafactory.train import tuner; print('LLaMA-Factory 0.9.5, transformers', transformers.__version__)"
