# make demo   a real container, on a machine that has only python3 and root
# make test   every check and test; installs what they need; fails if the host is not as it was before
# make test-machine   what needs a kernel set up in another way, in a virtual machine: half an hour
# make bench  orlop bench with the parts of bench/, for work on Orlop: docs/benchmarks.md
# make figures   orlop bench, into docs/bench-figures.md and docs/bench-*.svg; a quarter of an hour and more
# make conformance   what the OCI validation programs find, written into CONFORMANCE.md
#
# Each does its own set-up. SKIP_PACKAGES=1 leaves the system's packages alone.

PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test test-machine bench figures check conformance format packages-% clean

demo: $(VENV)/.demo
	@tools/demo $(BIN)/orlop

test: $(VENV)/.test
	@$(BIN)/python -m tests.host_state tools/run-tests $(BIN)/python $(PYTEST_ARGS)

test-machine: $(VENV)/.test packages-machine
	@$(BIN)/python -m pytest -m machine $(PYTEST_ARGS)

check: $(VENV)/.test
	@$(BIN)/python -m pytest -q tests/test_style.py

bench: $(VENV)/.test packages-bench
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m orlop bench --also bench --start-peers $(BENCH_ARGS)

figures: $(VENV)/.test packages-bench
	@tools/figures $(BIN)/orlop $(BENCH_ARGS)

conformance: $(VENV)/.test
	@$(BIN)/python -m tests.validation

format: $(VENV)/.test
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

packages-%:
	@[ -n "$(SKIP_PACKAGES)" ] || tools/install-packages $*

$(VENV)/.demo: pyproject.toml | packages-demo
	@tools/make-venv $(PYTHON) $(VENV) -e .
	@touch $@

$(VENV)/.test: pyproject.toml | packages-test
	@tools/make-venv $(PYTHON) $(VENV) -e '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist
