#!/bin/sh
# Makes an environment with TRL beside this one: `sh benchmarks/setup/trl.sh FOLDER`, then `--trl FOLDER/bin/python`.
# transformers and peft are those of the Python that runs this, so that both sides use the same ones.
. "$(dirname "$0")/beside.sh"
"$folder/bin/pip" install --quiet --no-deps "trl==1.16.0"
"$folder/bin/python" -c "import trl, transformers; print('trl', trl.__version__, 'transformers', transformers.__version__)"
