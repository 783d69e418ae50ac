# Every target sets up .venv first. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint docs bench bench-long bench-gpu flow-recapture flow-train-iterative flow-transfer flow-pretrain ui clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "recapture needs Python 3.11 or 3.12; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up .venv (a few minutes the first time)"
	@$(PYTHON) -m venv .venv || { echo "on Debian and Ubuntu: apt-get install python3-venv"; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true  # on every core, where pip has one
	@touch $@

demo: $(READY) ## Set up, then recapture the bundled sample dataset along two trajectories
	$(BIN)/recapture demo

test: $(READY) ## Set up, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not full" -n 3 --dist loadfile --no-loadscope-reorder

test-full: $(READY) ## The tests, with those that take long
	$(BIN)/python -m pytest

lint: $(READY) ## Style, types, and which folder may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## Print the tables of benchmarks/ that a CPU makes in 10 minutes, and write them into the pages
	$(BIN)/python benchmarks/render_quality.py --write
	$(BIN)/python benchmarks/render_speed.py --write
	$(BIN)/python benchmarks/scenes_speed.py --write
	$(BIN)/python benchmarks/pool_overhead.py --write
	$(BIN)/python benchmarks/simulate_workers.py --write
	$(BIN)/python benchmarks/scale.py --clips 10000 100000 --write

bench-long: $(READY) ## The same for tables that take a CPU about 2 hours
	$(BIN)/python benchmarks/embedded_base.py --write
	$(BIN)/python benchmarks/depth_edges.py --write
	$(BIN)/python benchmarks/perceptual.py --write
	$(BIN)/python benchmarks/classical_fill.py --write
	$(BIN)/python benchmarks/masks.py --scenes 24 --write
	$(BIN)/python benchmarks/masks.py cost --write
	$(BIN)/python benchmarks/situations.py --write --picture docs/images/situations.jpg
	$(BIN)/python benchmarks/cameras.py --frames 17 --write
	$(BIN)/python benchmarks/cameras.py --frames 81 --write
	$(BIN)/python benchmarks/source_size.py --write
	$(BIN)/python benchmarks/source_size.py cost --height 1080 --width 1920 --short-side 480 --write
	$(BIN)/python benchmarks/static_cloud.py --clips 4 --write
	$(BIN)/python benchmarks/static_cloud.py cost --write
	$(BIN)/python benchmarks/captions.py --scenes 3 --write
	$(BIN)/python benchmarks/seeds.py --scenes 2 --write
	$(BIN)/python benchmarks/compositing.py --write
	$(BIN)/python benchmarks/compositing.py cost --write
	-$(BIN)/python benchmarks/default_fill.py --write
	$(BIN)/python benchmarks/long_clip.py --frames 500 10000 --write
	$(BIN)/python benchmarks/stage_costs.py --write
	$(BIN)/python benchmarks/scale.py --stages 6 --clips 100000 --write
	$(BIN)/python benchmarks/scale_files.py --clips 100000 --write

GPU := --device cuda --workers $(or $(WORKERS),15)
bench-gpu: $(READY) ## The same for tables that need a GPU: several hours; WORKERS=15 processes share it
	$(BIN)/python benchmarks/render_speed.py --device cuda --frames 81 --repeats 20 --write
	$(BIN)/python benchmarks/inverse_cost.py --clips 81x480x832 --repeats 1 --pixels --write
	$(BIN)/python benchmarks/inverse_cost.py --clips 81x512x512 --write
	$(BIN)/python benchmarks/tuning_speed.py --write
	$(BIN)/python benchmarks/tuning_speed.py --size 14B --steps 3 --write
	$(BIN)/python benchmarks/tuning_parallel.py --write
	$(BIN)/python benchmarks/inverse.py masks $(GPU) --write
	$(BIN)/python benchmarks/inverse.py settings --seeds 2 --skip "area, pull_push" "mask_encode, pull_push" $(GPU) --write
	$(BIN)/python benchmarks/inverse.py solvers --skip psld $(GPU) --write
	$(BIN)/python benchmarks/inverse.py solvers --seeds 1 --only native psld "renoised, area" $(GPU) --write inverse-psld
	$(BIN)/python benchmarks/inverse.py report $(GPU) --write
	$(BIN)/python benchmarks/tuning.py $(GPU) --only single iterative "single, packed in training" \
	  --angles 5 10 20 30 45 60 75 --write
	$(BIN)/python benchmarks/tuning.py $(GPU) --only single "a clip" both --angles 20 45 --write tuning-scope
	$(BIN)/python benchmarks/tuning.py $(GPU) --only "point-cloud masks" single "rounds without cycle pairs" iterative \
	  --angles 20 30 45 60 --tables by-angle --write tuning-ablation
	$(BIN)/python benchmarks/tuning_plot.py
	$(BIN)/python benchmarks/packing.py $(GPU) --write
	$(BIN)/python benchmarks/editing.py $(GPU) --write
	$(BIN)/python benchmarks/editing.py $(GPU) --mask box --write

flow-recapture: $(READY) ## The recapture flow; settings in ARGS, as in ARGS="--dataset.uri /videos"
	$(BIN)/recapture run $(ARGS)

flow-train-iterative: $(READY) ## The tuning flow; settings in ARGS, as in ARGS="--tune.scope clip"
	$(BIN)/recapture train $(ARGS)

flow-transfer: $(READY) ## The motion transfer flow, on MotionScenes; settings in ARGS
	$(BIN)/recapture transfer $(or $(ARGS),--profile motion)

flow-pretrain: $(READY) ## Train the embedded base anew; settings in ARGS, as in ARGS="--gates.enforce false"
	$(BIN)/recapture pretrain $(ARGS)

docs: $(READY) ## Build the site into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

ui: $(READY) ## Prefect's and MLflow's dashboards on loopback
	$(BIN)/recapture ui

clean: ## Remove the artifacts, outputs and databases of local runs (the virtual environment stays)
	rm -rf artifacts outputs state
