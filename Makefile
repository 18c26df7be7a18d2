# `make` lists the targets. PYTHON chooses the interpreter (3.11 or newer) of the virtual environment that is made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERL_VENV := .venv-verl
VERL_BIN := $(VERL_VENV)/bin
VLLM_VENV := .venv-vllm
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-verl test-engines check format bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "StepSearch needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: requirements.txt pyproject.toml | $(VENV)/.python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.core
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

$(VLLM_VENV)/.installed: requirements-vllm.txt pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps -r requirements-vllm.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps -e .
	@touch $@

setup: $(VENV)/.core ## Set up .venv, and no more

quickstart: $(VENV)/.core ## Set up, then train and evaluate a tiny search agent (minutes, no download of models)
	$(BIN)/stepsearch quickstart

test: $(VENV)/.dev ## Set up, then run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

$(VERL_VENV)/.ready: requirements-verl.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "verl needs Python 3.11 or 3.12: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VERL_VENV)
	$(VERL_BIN)/python -m pip install --quiet -r requirements-verl.txt
	$(VERL_BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# Without verl its tests are skipped; here that is a failure.
test-verl: $(VERL_VENV)/.ready ## Set up verl in an environment of its own, then test the plug-in for it there
	$(VERL_BIN)/python -c 'import verl'
	OMP_NUM_THREADS=1 $(VERL_BIN)/python -m pytest -W default tests/verl

test-engines: $(VLLM_VENV)/.installed ## Set up vLLM in an environment of its own, then run the tests over it (2 GB)
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -o filterwarnings= --show-capture=no -k vllm \
		tests/contracts/test_generation_engines.py tests/engines tests/end_to_end/test_vllm_training.py

check: $(VENV)/.dev ## Formatting, lint, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev ## Format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## Run the benchmarks (docs/benchmarks.md says what each measures)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) $(VERL_VENV) $(VLLM_VENV) .pytest_cache .ruff_cache .hypothesis
