# Holdfast: the few commands there are. Each does its own set-up.
SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
BENCH_OUT ?= --json bench/results.json --markdown bench/results.md --charts bench

.PHONY: serve test check bench lock clean

serve: $(VENV)/.ready          ## start the registry on 127.0.0.1:5000, storage in ./registry-data
	exec $(BIN)/registry serve deploy/local.yml

test: $(VENV)/.dev             ## install what the tests need (from apt too, when it may) and run everything
	scripts/install-engines
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev            ## formatting, lint, types, the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:gc $(BIN)/lint-imports

bench: $(VENV)/.dev            ## side by side with Debian's docker-registry
	scripts/install-engines docker-registry nginx-light ceph-mon ceph-osd radosgw ceph-common
	mkdir -p bench
	$(BIN)/python -m tests.bench $(BENCH_OUT) $(BENCH_ARGS)

lock: $(VENV)/.dev             ## write requirements*.lock anew from pyproject.toml
	scripts/lock

$(VENV)/.ready: requirements.lock pyproject.toml
	scripts/venv $(VENV) requirements.lock
	touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	scripts/venv $(VENV) requirements-dev.lock
	touch $(VENV)/.ready $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
