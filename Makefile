# `make demo` and `make test` are all a fresh machine needs: python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Its age says when the environment was last installed; only what is named here makes it stale.
COMPILED := setup.py src/rightbatch/loading/_jpeg_pieces.c
STAMP := $(VENV)/.installed

# One arithmetic thread a test process: two processes already fill two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
TEST_PROCESSES ?= 2

.PHONY: help install demo test integrations check format proof bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

install: $(STAMP)  ## create .venv and install rightbatch with its development tools

$(STAMP): pyproject.toml constraints.txt $(COMPILED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "rightbatch needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`." \
	  "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot create $(VENV); where venv is a package of its own, install" \
	  "python3-venv and try again." >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable .
	@touch $@

# The data ship with scikit-learn: 569 tumours, 30 measurements each.
DEMO := demo
DEMO_DATA := breast_cancer --stratify --standardize --val 0.16 --test 0.2 --seed 1
DEMO_MODEL := --model mlp:10 --activation sigmoid --lr 0.1 --epochs 30

demo: $(STAMP)  ## find the batch size for real data, train, test, and make a report
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@$(BIN)/rightbatch run $(DEMO_DATA) $(DEMO_MODEL) --budget 30 \
	  --out $(DEMO)/run --report $(DEMO)/report.html

test: $(STAMP)  ## run the suite (under 8 minutes on 2 cores)
	$(ONE_THREAD) $(BIN)/python -m pytest -q --numprocesses $(TEST_PROCESSES) $(TEST_ARGUMENTS)

# What these libraries warn of is theirs to repair.
INTEGRATIONS := tests/integrations tests/data/test_hugging_face.py tests/laws/test_dataset_law.py \
  docs/integrations.md src/rightbatch/integrations src/rightbatch/data/hugging_face.py

integrations: $(STAMP)  ## install Lightning, transformers, Keras, JAX, TensorFlow; train in each
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group integrations
	RIGHTBATCH_INTEGRATIONS=1 $(ONE_THREAD) $(BIN)/python -m pytest -q -W ignore \
	  $(INTEGRATIONS) $(TEST_ARGUMENTS)

check: $(STAMP)  ## lint, format, types, and the one-way layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## rewrite the sources as `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Examples a law: `proof` takes 1,000, `reduced` 150.
PROOF_PROFILE ?= proof

proof: $(STAMP)  ## the slow rest: full-size proofs, and many examples a law
	HYPOTHESIS_PROFILE=$(PROOF_PROFILE) $(BIN)/python -m pytest -q -m slow --timeout 7200 \
	  $(TEST_ARGUMENTS)
	HYPOTHESIS_PROFILE=$(PROOF_PROFILE) $(ONE_THREAD) $(BIN)/python -m pytest -q \
	  --numprocesses $(TEST_PROCESSES) --timeout 7200 tests/laws $(TEST_ARGUMENTS)

bench: $(STAMP)  ## install the peers and measure against them
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/in_memory.py
	$(BIN)/python benchmarks/larger_than_memory.py
	$(BIN)/python benchmarks/larger_than_memory.py --growth
	$(BIN)/python benchmarks/token_batches.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/images.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/remote.py
	$(BIN)/python benchmarks/batch_size.py
	$(BIN)/python benchmarks/advice_memory.py
	$(BIN)/python benchmarks/advice_regret.py

clean:  ## remove the environment, the demo and every cache; runs/ stays
	rm -rf $(VENV) $(DEMO) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf src/*.egg-info src/rightbatch/loading/*.so
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
