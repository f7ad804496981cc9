.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export FLWR_TELEMETRY_ENABLED ?= 0

.PHONY: help install demo test fast slow exhaustive check fmt lint types clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

install: $(STAMP) ## set up .venv with pinned versions; again only when they change

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

demo: $(STAMP) ## train a federation on generated data and show what it learned
	rm -rf demo
	$(BIN)/tacit simulate demo --out demo

test: check fast slow ## all that CI runs: check, fast suite, slow suite

fast: $(STAMP) ## fast suite alone, under two minutes
	$(BIN)/pytest -n auto --dist loadfile

slow: $(STAMP) ## slow suite alone: real weights, processes, Ray
	$(BIN)/pytest -m slow -n 2 --dist loadfile

exhaustive: $(STAMP) ## every kill in every phase, every fault: an hour; CI samples them
	$(BIN)/pytest -m exhaustive

check: lint types ## style, import direction and types

lint: $(STAMP) ## ruff and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP) ## mypy strict
	$(BIN)/mypy

fmt: $(STAMP) ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what runs left behind, but not .venv
	rm -rf demo run runs .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
