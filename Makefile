# What each target does: `make help`. Everything runs in .venv, which deploy/bootstrap.sh makes.
SHELL := bash
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PARALLEL = $(MAKE) -j2 --output-sync=target

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench corpus eval train lock format clean lint types imports quick-tests

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: .venv from the lock file, a broker
	@deploy/bootstrap.sh

demo: setup ## run it all on real mail; FRESH=1 starts anew, DEMO_ONCE=1 stops after the table, DEMO_JSON=FILE
	@exec $(BIN)/python -m deploy.local.demo

test: ## linters, types, and every test
	@deploy/bootstrap.sh tests
	@$(PARALLEL) lint types imports
	@$(BIN)/python -m pytest tests --ignore=tests/benchmarks -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## the quick part of it: linters, types, unit, contract and architecture tests
	@$(PARALLEL) lint types imports quick-tests

bench: setup ## measure; ARGS="--json FILE -n 2000"
	@exec $(BIN)/python -m tests.benchmarks $(ARGS)

corpus: setup ## send every file of a folder through it all: DIR=folder REPORT=file
	@exec $(BIN)/python -m deploy.corpus "$(or $(DIR),$(error say DIR=folder))" $(if $(REPORT),--report "$(REPORT)")

eval: setup ## judge labelled mails: FILE=enquiries.jsonl JSON=out.jsonl
	@exec $(BIN)/python -m services.triage.evaluate $(or $(FILE),deploy/demo/enquiries-dev.jsonl) $(if $(JSON),--json $(JSON))

train: setup ## train the triage model anew; publishes what is not worse. ARGS=--dry
	@exec $(BIN)/python -m services.triage.training $(ARGS)

lock: ## bring uv.lock up to date with pyproject.toml
	@deploy/bootstrap.sh lock

format: setup ## format, and mend what ruff can
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

clean: ## remove caches and the demo's data
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

lint:
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet

types:
	@$(BIN)/mypy

imports:
	@$(BIN)/lint-imports

quick-tests:
	@$(BIN)/python -m pytest $(wildcard tests/unit tests/contracts tests/architecture)
