# Every target sets up .venv first. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint bench bench-gpu flow-recapture flow-train-iterative flow-pretrain ui clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "recapture needs Python 3.11 or 3.12; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up .venv (a few minutes the first time)"
	@$(PYTHON) -m venv .venv || { echo "on Debian and Ubuntu: apt-get install python3-venv"; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## Set up, then recapture the bundled sample dataset along two trajectories
	$(BIN)/recapture run --profile demo

test: $(READY) ## Set up, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not full" -n 2 --dist loadfile

test-full: $(READY) ## The tests, with those that take long
	$(BIN)/python -m pytest

lint: $(READY) ## Style, types, and which folder may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## Make the tables of benchmarks/ again
	$(BIN)/python benchmarks/render_quality.py
	$(BIN)/python benchmarks/render_speed.py
	$(BIN)/python benchmarks/pool_overhead.py
	$(BIN)/python benchmarks/embedded_base.py
	$(BIN)/python benchmarks/inverse.py report
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/long_clip.py

bench-gpu: $(READY) ## The tables that need a GPU: real sizes, and what takes a CPU too long
	$(BIN)/python benchmarks/inverse_cost.py
	$(BIN)/python benchmarks/tuning_speed.py
	$(BIN)/python benchmarks/tuning_speed.py --size 14B
	$(BIN)/python benchmarks/tuning_parallel.py
	for stage in masks settings solvers report; do \
	  $(BIN)/python benchmarks/inverse.py $$stage --device cuda --workers 8 || exit 1; done
	$(BIN)/python benchmarks/tuning.py --device cuda --workers 8
	$(BIN)/python benchmarks/packing.py --device cuda --workers 8
	$(BIN)/python benchmarks/editing.py --device cuda --workers 8
	$(BIN)/python benchmarks/editing.py --device cuda --workers 8 --mask box

flow-recapture: $(READY) ## The recapture flow; settings in ARGS, as in ARGS="--dataset.uri /videos"
	$(BIN)/recapture run $(ARGS)

flow-train-iterative: $(READY) ## The tuning flow; settings in ARGS, as in ARGS="--tune.scope clip"
	$(BIN)/recapture train $(ARGS)

flow-pretrain: $(READY) ## Train the embedded base anew; settings in ARGS, as in ARGS="--gates.enforce false"
	$(BIN)/recapture pretrain $(ARGS)

ui: $(READY) ## Prefect's and MLflow's dashboards on loopback
	$(BIN)/recapture ui

clean: ## Remove the artifacts, outputs and databases of local runs (the virtual environment stays)
	rm -rf artifacts outputs state
