# make demo   makes the environment, compiles an embedded model, streams a real video file through it
# make test   makes the environment, runs all checks
# make compiling  prints how long networks take to compile
# make state  prints the state of ten networks beside the paper's accounting and what another library allocates
# make endurance  streams 100,000 frames and prints the memory in use
# make peers  compares streams with those of other people's tools (a part of make test where they can be installed)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 10000
VIDEO ?=

.PHONY: demo test format fuzz zoo peers bench compiling networks state endurance clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)")

test: $(VENV)/.ready $(VENV)/.browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/.ready
	CO3D_FUZZ=$(N) $(BIN)/python -m pytest tests/test_random_networks.py

zoo: $(VENV)/.ready
	CO3D_ZOO=full $(BIN)/python -m pytest tests/test_zoo.py tests/test_properties.py

peers: $(VENV)/.ready
	$(BIN)/pip install --quiet --only-binary :all: -r requirements-peers.txt
	$(BIN)/python -m pytest tests/peers -m peers

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.steps

compiling: $(VENV)/.ready
	$(BIN)/python -m benchmarks.compiling

networks: $(VENV)/.ready
	$(BIN)/python -m benchmarks.networks

state: $(VENV)/.ready
	$(BIN)/python -m benchmarks.state

endurance: $(VENV)/.ready
	$(BIN)/python -m benchmarks.endurance --network wide --frames 100000
	$(BIN)/python -m benchmarks.endurance --network x3d_xs --frames 2000

# torch is pinned before anything else asks for it: a looser requirement would bring gigabytes of CUDA.
$(VENV)/.ready: pyproject.toml requirements-models.txt requirements-peers.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps -r requirements-models.txt
	$(BIN)/pip install --quiet --only-binary :all: -r requirements-peers.txt || echo "tract has no wheel for this machine: tests/peers skips it"
	touch $@

# For the tests of the report's page, which are skipped where no browser can be had.
BROWSER := chromium chromium-driver
$(VENV)/.browser: $(VENV)/.ready
	command -v chromedriver >/dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	     && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(BROWSER) >/dev/null; } \
	|| echo "no $(BROWSER) here, and no way to install them: tests/test_page_in_browser.py skips"
	touch $@

clean:
	rm -rf $(VENV) build demo_out
