# Two commands matter: `make demo` shows it, `make test` proves it. Both set up everything they need.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Tests start many processes; without kept bytecode each of them compiles the fleet anew.
export PYTHONDONTWRITEBYTECODE :=
LOCKED := --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: setup demo demo-learning test test-slow test-kafka faults soak lint bench kafka schemas docs lock clean help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## a virtual environment with everything; quick the second time

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## the whole path on the embedded broker: 150 prompts, an outage, nothing lost
	$(BIN)/heimdall demo

demo-learning: setup  ## the learning loop on the embedded broker: a model gets worse, drift, training, promotion under load
	@$(BIN)/heimdall demo-learning -o json

test: setup lint  ## lint, types, layers and every test that needs no Apache Kafka
	$(BIN)/pytest -n 2 --dist worksteal -m "not kafka and not slow" tests

test-slow: setup  ## whole commands that take tens of seconds: benchmarks, training
	$(BIN)/pytest -m "slow and not kafka" --timeout 300 tests

test-kafka: setup  ## contract, flow, crash and fault tests on Apache Kafka (Java 17; its artifacts are fetched by Maven)
	$(BIN)/pytest -m kafka --timeout 600 tests/contract tests/flow tests/integration
	$(BIN)/pytest -m kafka --timeout 600 -n 2 --dist load tests/faults

faults: setup  ## of these the fault suite alone: kills, zombies, storms, hostile providers, a state that dies
	$(BIN)/pytest -m kafka --timeout 600 -n 2 --dist load tests/faults

soak: setup  ## seeded random faults for as long as it is told
	$(BIN)/python -m tests.faults.soak

lint: setup  ## ruff, mypy --strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## ratios, measured side by side in one run
	$(BIN)/python bench/triage.py
	$(BIN)/python bench/dispatch.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/failover.py

kafka: setup  ## a one-node Apache Kafka in the foreground, without Docker
	$(BIN)/python deploy/kafka/broker.py start --foreground

schemas: setup  ## JSON Schemas and the AsyncAPI document from the message classes
	$(BIN)/python -m heimdall_schemas.generate

lock: setup  ## resolve requirements.lock and the locks of the images anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(LOCKED) --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCKED) --extra fleet pyproject.toml -c requirements.lock -o deploy/requirements-fleet.lock
	$(BIN)/uv pip compile $(LOCKED) --extra train pyproject.toml -c requirements.lock -o deploy/requirements-learn.lock

clean:  ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
