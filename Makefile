PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/causal.dsl
BIND := B=1,H=12,G=12,M=1024,N=1024,D=64,E=64

.PHONY: help demo test full lint golden

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/demo  ## compile and check a GPT-2-sized causal attention for gaudi2
	$(BIN)/tpcgen compile $(EXAMPLE) -o build --target gaudi2 --bind $(BIND)

test: lint  ## everything CI runs: lint, types, layers, tests
	$(BIN)/python -m pytest -m "not full" --durations=10

full: lint  ## also the long matrices and the wheel
	$(BIN)/python -m pytest --durations=25

lint: $(VENV)/dev  ## ruff, pyright strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

golden: $(VENV)/dev  ## rewrite the golden files from what the compiler prints now; read the diff
	$(BIN)/python -m pytest -m "not full" --update-golden

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev: $(VENV)/bin/python pyproject.toml requirements-test.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev]' -r requirements-test.txt
	@touch $@ $(VENV)/demo
