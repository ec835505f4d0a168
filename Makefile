# Everything a user or a contributor runs. `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The CPU build of torch, where one is at hand: it is wanted by the benchmark and by cross-checks only.
TORCH  := torch==2.13.0+cpu

.PHONY: env demo test lint check bench docs clean

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH) 2>/dev/null \
	  || echo "note: no CPU wheel of torch found; what compares with PyTorch is left out (pip install 'attractor[torch]')"
	@touch $@

demo: env
	$(BIN)/attractor check sinkhorn-newton-sparse cbo-as-stochastic-gd c-rectified-flow
	$(BIN)/attractor compare digits-mlp adam adahessian muon lion --steps 500 --seeds 8 --budget 8 --report demo.html

test: env lint
	$(BIN)/attractor check --stale --jobs 2
	$(BIN)/python -m pytest -n 2

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

check: env
	$(BIN)/attractor check --all --record --jobs 2

bench: env
	$(BIN)/python benchmarks/engine.py

docs: env
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .attractor site demo.html
