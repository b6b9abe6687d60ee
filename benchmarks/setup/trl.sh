#!/bin/sh
# Makes an environment with TRL beside this one: `sh benchmarks/setup/trl.sh FOLDER`, then `--trl FOLDER/bin/python`.
# It sees the libraries of the Python that runs this (torch, transformers, peft), so that both use the same ones.
set -eu
folder="$1"
python="${PYTHON:-python}"
"$python" -m venv "$folder"
packages=$("$python" -c "import site; print(site.getsitepackages()[0])")
inside=$("$folder/bin/python" -c "import site; print(site.getsitepackages()[0])")
echo "$packages" > "$inside/base.pth"
"$folder/bin/pip" install --quiet --no-deps "trl==1.16.0"
"$folder/bin/python" -c "import trl, transformers; print('trl', trl.__version__, 'transformers', transformers.__version__)"
