PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
EXAMPLE := examples/causal.dsl
BIND := B=1,H=12,G=12,M=1024,N=1024,D=64,E=64

.PHONY: help demo test full lint golden
.NOTPARALLEL:

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/demo  ## compile and check a GPT-2-sized causal attention for gaudi2
	$(BIN)/tpcgen compile $(EXAMPLE) -o build --target gaudi2 --bind $(BIND)

test: lint  ## everything CI runs: lint, types, layers, tests
	$(BIN)/python -m pytest -m "not full" -n logical --dist loadfile --durations=10

full: lint  ## also the long matrices and the wheel
	$(BIN)/python -m pytest -n logical --dist loadfile --durations=25

lint: $(VENV)/dev  ## ruff, pyright strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

golden: $(VENV)/dev  ## rewrite the golden files from what the compiler prints now; read the diff
	$(BIN)/python -m pytest -m "not full" --update-golden

# Stamps of finished installs. Making the environment again is quick and repairs one that was interrupted.
$(VENV)/demo: pyproject.toml
	@echo "installing tpcgen into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/dev: pyproject.toml requirements-test.txt
	@echo "installing tpcgen and what its tests need into $(VENV); the first time takes minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[dev]' --requirement requirements-test.txt
	@touch $@ $(VENV)/demo
