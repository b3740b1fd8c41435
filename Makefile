# Everything runs from .local/: two environments made from hashed locks, and the state of the laptop's stack.
SHELL := /bin/bash
PYTHON3 ?= python3.11
PY := .local/airflow/bin/python
SOURCE ?=
LABELS ?=
CONF ?= {}

.DEFAULT_GOAL := help
.PHONY: help setup python demo up down test test-all bench-split lint format lock doctor clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: python ## make the two environments (the other targets do this themselves)
	@$(PYTHON3) scripts/set_up.py

python:
	@command -v $(PYTHON3) >/dev/null || { echo "$(PYTHON3) is missing: install Python 3.11 with venv (Debian: apt install python3.11 python3.11-venv)" >&2; exit 1; }

demo: setup ## run the whole pipeline, on a sample or with SOURCE=folder LABELS=file.csv
	@$(PY) -m shardmill.laptop.demo --source '$(SOURCE)' --labels '$(LABELS)' --conf '$(CONF)'

up: setup ## start Airflow and the local AWS, and stay
	@$(PY) -m shardmill.laptop.up up

down: setup ## end what `make up` started
	@$(PY) -m shardmill.laptop.up down

test: setup lint ## lint, types, import contracts and tests
	@$(PY) -m pytest -m 'not slow'

test-all: setup lint ## the long tests too
	@$(PY) -m pytest

bench-split: setup ## measure split against the well-known shell pipeline
	@$(PY) scripts/bench_split.py

lint: setup ## ruff, types and import contracts
	@.local/airflow/bin/ruff check .
	@.local/airflow/bin/ruff format --check .
	@.local/airflow/bin/mypy
	@.local/airflow/bin/lint-imports --no-cache

format: setup ## mend what ruff can mend
	@.local/airflow/bin/ruff check --fix .
	@.local/airflow/bin/ruff format .

lock: setup ## compile the locks anew (maintainers only)
	@scripts/lock.sh

doctor: python ## say what is missing or odd on this machine, and how to mend it
	@$(PYTHON3) scripts/doctor.py

clean: ## end what runs and remove all state and both environments
	@if [ -x $(PY) ]; then $(PY) -m shardmill.laptop.up down; fi
	@rm -rf .local
