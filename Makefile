# Five commands: install, check, test, demo, bench. Further ones: test-all runs the slow tests too, tables prints the tables of the
# documents from the measured cells, docs checks the documents and builds their site, reference writes the pages that come from the
# code, soak is half an hour of load, audit looks for known vulnerabilities, and lock rewrites the lock files.
PYTHON ?= python3.11
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: install check test test-all demo bench tables soak docs reference audit lock

install: .venv/.installed

# torch alone has no hash in the lock file: which of its builds an index has differs (with CUDA or without).
TORCH := torch==2.13.0
PIP := pip install --quiet --disable-pip-version-check --no-deps

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP) --require-hashes -r requirements.lock
	$(BIN)/$(PIP) $(TORCH)
	$(BIN)/$(PIP) -e .
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

models: install
	$(BIN)/refsynth models fetch

# One file of tests goes to one process, so what its tests share is made once.
PYTEST := $(BIN)/pytest -q -n logical --maxprocesses 4 --dist loadfile

test: models  # minutes: tiny models, few examples
	$(PYTEST)

test-all: models  # all of `make test`, and what is marked slow, with all examples
	$(PYTEST) -m "" --hypothesis-profile full

demo: models
	$(BIN)/refsynth demo --out runs/demo

# make bench NAME=fewshot DATA=DIR [QUICK=1] [SEEDS=3] [ONLY=snips] [AGAIN=1] [JSON=1]; without NAME it lists the benches
bench: install
	$(BIN)/python -m benchmarks $(or $(NAME),--help) $(if $(DATA),--data '$(DATA)') $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(QUICK),--quick) $(if $(AGAIN),--again) $(if $(JSON),--json)

tables: install
	$(BIN)/python -m benchmarks tables

soak: models
	$(BIN)/python -m benchmarks serve --only soak --again

# What the documents say is true, and the site in build/site has no broken link.
docs: install .venv-docs/.installed
	$(BIN)/pytest -q tests/docs/test_docs.py tests/docs/test_walks.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# The pages of docs/reference that are written from the code.
reference: install
	$(BIN)/python docs/generate.py

.venv-docs/.installed: requirements-docs.lock
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/$(PIP) --require-hashes -r requirements-docs.lock
	touch $@

# The list of what is inside (CycloneDX), and whether a pinned version has a known vulnerability. Needs the network.
audit: install
	mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --output-file build/sbom.json
	$(BIN)/cyclonedx-py requirements requirements-serve.lock --output-file build/sbom-serve.json
	$(BIN)/pip-audit --require-hashes --disable-pip --requirement requirements.lock

lock:  # rewrite the lock files from pyproject.toml, with hashes (needs the package index)
	$(PYTHON) -m venv --clear build/lock && build/lock/bin/pip install --quiet uv
	$(call locked,dev,requirements.lock,-r benchmarks/requirements.txt)
	$(call locked,serve,requirements-serve.lock,)
	$(call locked,docs,requirements-docs.lock,)

define locked
	$(PYTHON) -m venv --clear build/$(1)
	build/$(1)/bin/pip install --quiet '.[$(1)]' $(3)
	build/$(1)/bin/pip freeze | grep -v -e '^refsynth' -e '^torch==' > build/$(1).txt
	build/lock/bin/uv pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header build/$(1).txt -o $(2)
endef
