# Five commands: install, check, test, demo, bench (and docs, which checks what the documentation says; soak, half an hour of load).
PYTHON ?= python3.11
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: install check test demo bench soak docs lock

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

models: install
	$(BIN)/refsynth models fetch

test: models
	$(BIN)/pytest -q

demo: models
	$(BIN)/refsynth demo --out runs/demo

bench: install
	$(BIN)/refsynth bench --help

soak: models
	$(BIN)/refsynth bench serve --only soak --long --again

docs: install
	$(BIN)/pytest -q tests/test_docs.py

lock:  # rewrite the lock file from pyproject.toml (needs the package index)
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet -e '.[dev]'
	build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
