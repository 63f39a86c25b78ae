# Two commands: `make demo` and `make test`. Both set up .venv by themselves.

PYTHON ?= python3
VENV ?= .venv
WORK ?= work
CORPUS ?=

BIN = $(VENV)/bin
READY = $(VENV)/.ready

ARGS ?=

.PHONY: demo check test engines lint types quality quality-processes bench bench-gpu clean

demo: $(READY)
	@CORPUS='$(CORPUS)' PYTHON='$(BIN)/python' WORK='$(WORK)' bash deploy/demo.sh

# The inner loop, in about a minute: lint, types, and the tests of single functions.
check: lint types
	$(BIN)/python -m pytest -n auto -m unit tests/pipeline tests/deploy tests/quality

# A process a core: most tests wait for processes of their own.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 15 --durations-min 10

# Real engines and stores: installed into ~/.cache/pairstream (or PAIRSTREAM_CACHE), started and stopped by the tests.
# Two files at a time, since most of it is waiting for servers.
engines: $(READY)
	$(BIN)/python -m pytest -m engines -n 2 --dist loadfile --timeout 1200 --durations 15 --durations-min 10 tests/engines

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Needs real text: set CORPORA to its folder (docs/performance.md).
quality: $(READY)
	$(BIN)/python -m tests.quality.words
	$(BIN)/python -m tests.quality.phrases
	$(BIN)/python -m tests.quality.lane

# How well several processes learn what one learns; they share this machine's cores. ARGS='--processes 4 --words 3000000'
quality-processes: $(READY)
	$(BIN)/python -m tests.quality.processes $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench --epochs 5
	$(BIN)/python -m tests.bench.pipeline
	$(BIN)/python -m tests.bench.machine_limits
	$(BIN)/python -m tests.bench.kernel
	$(BIN)/python -m tests.bench.data_cost

# On a machine with a GPU, with what is installed there: no .venv, no Beam, no Numba. CORPUS is text, plain or .gz.
bench-gpu:
	@test -n '$(CORPUS)' || { echo "error: make bench-gpu needs CORPUS=path of text" >&2; exit 1; }
	PYTHONPATH=. $(PYTHON) -m tests.bench.gpu --corpus '$(CORPUS)' --work '$(WORK)/gpu'

$(READY): pyproject.toml .ci/constraints.txt .ci/constraints-3.10.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than Python 3.10; set PYTHON=python3.11, say" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c $$($(BIN)/python -c 'import sys; print(".ci/constraints" + ("-3.10" if sys.version_info < (3, 11) else "") + ".txt")') \
	  -e '.[pipeline,trainer,dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(WORK) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
