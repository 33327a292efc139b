# make demo   the main job, on MNIST where it can be had, else on scikit-learn's digits
# make test   lint, types, import contract and tests
# Both install what they need into .venv; PYTHON=python3.12 picks another interpreter (3.11 to 3.13).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint types imports pytest clean

demo: $(VENV)/.runs
	$(BIN)/paredown demo

test: lint types imports pytest

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tests
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(VENV)/.tests
	$(BIN)/lint-imports

pytest: $(VENV)/.tests
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

$(VENV)/.runs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[cpu]'
	touch $@

$(VENV)/.tests: $(VENV)/.runs
	$(PIP) install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist
