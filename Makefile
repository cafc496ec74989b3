# Everything that a person or a machine does with this project. It needs make and Python 3.11 or
# newer, nothing else: each target first sets up .venv from PyPI, again if pyproject.toml changed.
# ARGS goes to the program behind a target:
#   make test ARGS="tests/core -x"      make demo ARGS="--nodes 3"

VENV   = .venv
PYTHON = python3.13 python3.12 python3.11 python3
ARGS   =
SEED   =
SECONDS = 300

BIN   = $(VENV)/bin
STAMP = $(VENV)/.installed

FITS    = import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
QUIETLY = --quiet --no-input --disable-pip-version-check

.PHONY: help setup test demo check lint format types imports sim chaos scale plots bench grow \
        overload sessions mend browser redis clients screenshots openapi dashboard clean

help:
	@echo "make demo       five nodes, shoppers, faults, and a verdict: 30 seconds, and some more"
	@echo "make test       all tests"
	@echo "make check      lint, formatting, types, import layers"
	@echo "make sim        200 simulated clusters with faults; make sim SEED=7 repeats one of them"
	@echo "make chaos      five real nodes under all faults; make chaos SECONDS=60 SEED=7 is another run"
	@echo "make scale      measure simulated clusters of 5 to 1000 nodes: about 20 minutes"
	@echo "make plots      draw the figures of docs/scale, with matplotlib"
	@echo "make bench      throughput and latencies of three nodes on this machine"
	@echo "make grow       three nodes grow to five under load, and shrink again: about 3 minutes"
	@echo "make overload   three nodes are asked for ten times what they can do: about three minutes"
	@echo "make mend       one of three nodes loses a key in a hundred: what it takes to mend that"
	@echo "make sessions   200,000 sessions that end within a minute: about 14 minutes"
	@echo "make browser    the dashboard in a real browser: needs Debian's chromium and chromium-driver"
	@echo "make redis      the same commands asked of a real Redis and of a node: needs Debian's redis-server"
	@echo "make clients    redis-py, Django, Flask, FastAPI and others with three nodes, each in its own environment"
	@echo "make screenshots  take the pictures of docs/images anew, in that browser"
	@echo "make openapi    describe the HTTP API anew, from the code"
	@echo "make dashboard  make the Grafana dashboard anew, from its table"
	@echo "make setup      only the environment, in $(VENV)"
	@echo "make clean      remove the environment and all caches"

demo: setup
	@$(BIN)/everwrite demo --seconds 30 $(ARGS)

test: setup
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n 3)

check: lint format types imports

lint: setup
	$(BIN)/ruff check --quiet .

format: setup
	$(BIN)/ruff format --check --quiet .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports --no-logo

chaos: setup
	@$(BIN)/python -m tests.chaos.run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

sim: setup
	@$(BIN)/everwrite simulate $(if $(SEED),--seed $(SEED),--seeds 200) $(ARGS)

scale: setup
	@$(BIN)/python -m everwrite.sim.scale all --out docs/scale $(ARGS)

plots: setup
	@$(BIN)/python -m pip install $(QUIETLY) --editable '.[plots]'
	@$(BIN)/python -m everwrite.sim.scale plot --out docs/scale

bench: setup
	@$(BIN)/everwrite bench $(ARGS)

grow: setup
	@$(BIN)/python bench/growing.py $(ARGS)

overload: setup
	@$(BIN)/python bench/overload.py $(ARGS)

sessions: setup
	@$(BIN)/python bench/sessions.py $(ARGS)

mend: setup
	@$(BIN)/python bench/repairing.py $(ARGS)

redis: setup
	@$(BIN)/python -m pytest -m redis tests/server/redis $(ARGS)

clients: setup
	@$(BIN)/python -m tests.clients.environments
	@$(BIN)/python -m pytest tests/clients $(ARGS)

browser: setup
	@$(BIN)/python -m pip install $(QUIETLY) --editable '.[browser]'
	@$(BIN)/python -m pytest $(or $(ARGS),tests/browser)

screenshots: setup
	@$(BIN)/python -m pip install $(QUIETLY) --editable '.[browser]'
	@$(BIN)/python -m tests.browser.screenshots

openapi: setup
	@$(BIN)/python -m everwrite.server.http.openapi > docs/openapi.json

dashboard: setup
	@$(BIN)/python ops/grafana/dashboard.py > ops/grafana/everwrite.json

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

# The stamp says for which directory .venv was made. Where it is missing or says another (the checkout
# moved), or where the Python behind .venv is gone, the set-up is due whatever the dates say.
ifneq ($(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml
	@set -e; \
	if [ "$$(cat $@ 2>/dev/null || echo '$(CURDIR)')" != '$(CURDIR)' ] \
	    || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for python in $(PYTHON); do \
	    $$python -c '$(FITS)' 2>/dev/null && found=$$python && break; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Everwrite needs Python 3.11 or newer with its venv module." >&2; \
	    echo "Tried without success: $(PYTHON)" >&2; \
	    echo "Debian, Ubuntu: apt install python3 python3-venv" >&2; \
	    echo "Fedora: dnf install python3      macOS: brew install python" >&2; \
	    echo "Elsewhere: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$($$found --version) ..." >&2; \
	  $$found -m venv --clear $(VENV); \
	fi; \
	echo "Installing Everwrite and its tools from PyPI; this takes about a minute ..." >&2; \
	if ! $(BIN)/python -m pip install $(QUIETLY) --editable '.[dev]'; then \
	  echo "The installation failed, see above. Nothing outside $(VENV) was changed." >&2; \
	  echo "Is PyPI within reach? Try again with: make setup" >&2; \
	  exit 1; \
	fi; \
	echo '$(CURDIR)' > $@
