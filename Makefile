# Everything a developer or a visitor runs. `make run` and `make test` need only Python 3.11 and a network for pip.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUNS   := $(VENV)/.runs
READY  := $(VENV)/.installed
CHARTS := .cache/charts
FUZZ   := .cache/fuzz
BENCH  := .cache/bench
# The image has Debian's Python, and so has what is measured beside Debian's vmagent and Prometheus. One that was compiled
# without profiles, as pyenv does, is slower.
SYSTEM_PYTHON := $(firstword $(wildcard /usr/bin/python3) $(PYTHON))
SECONDS ?= 60
TARGETS ?=
FUZZ_ARGS ?=
PARTS  := bench bench.sidecar bench.start bench.freshness bench.scale bench.growth bench.imports bench.allocations \
          bench.profile

.PHONY: run test lint types check check-all check-charts browser kills load soak chaos lock audit bandit bench bench-python performance fuzz test-gpu docs charts pictures image sbom tools tools-observability tools-bench clean

run: $(RUNS)             ## the demo: simulated engines and GPUs, the agent, its page
	$(BIN)/inferometer demo

test: $(READY) tools tools-observability tools-bench  ## every test that needs at most a few minutes
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test   ## the gate: what CI runs

check-all: check browser check-charts  ## the long runs on top
	INFEROMETER_KILLS=100 INFEROMETER_LONG=1 $(BIN)/python -m pytest tests/test_kills.py tests/test_disk.py
	INFEROMETER_LONG=1 $(BIN)/python -m pytest tests/test_victoria.py tests/test_history.py

check-charts: $(CHARTS)/.installed tools  ## the charts by Helm's own library, on three releases of Kubernetes, and by checkov
	CHECKOV=$(CHARTS)/checkov/bin/checkov $(CHARTS)/bin/python -m pytest -c helm/tests/pytest.ini helm/tests

browser: $(READY)        ## the live page in a real Chromium, driven by Playwright
	@command -v chromium >/dev/null || sh tests/tools/install-debian.sh "a browser for the live page" chromium
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	INFEROMETER_BROWSER=chromium $(BIN)/python -m pytest tests/test_browser.py

kills: $(READY) tools    ## docs/reliability.md: 1,000 kills, 1,000 cuts of the power, 1,000 damaged ledgers, disks that refuse
	INFEROMETER_KILLS=1000 INFEROMETER_IMAGES=1000 INFEROMETER_LONG=1 $(BIN)/python -m pytest \
		tests/test_kills.py tests/test_power.py tests/test_ledger_damage.py tests/test_disk.py

chaos: $(READY)          ## 12,500 faults between the agent and what it reads; SEED=N for others
	INFEROMETER_CHAOS=10000 INFEROMETER_SEED=$(or $(SEED),1) nice -n 10 $(BIN)/python -m pytest -s tests/test_chaos.py tests/test_clocks.py

soak: $(READY)           ## 100,000 readings in 416 days of scripted time; samples in .cache/soak.csv
	INFEROMETER_SOAK=100000 INFEROMETER_SEED=$(or $(SEED),1) nice -n 10 $(BIN)/python -m pytest -s tests/test_soak.py

bench-python: $(BENCH)/.installed  ## Debian's Python with the agent, in .cache/bench

bench: bench-python tools-bench  ## CPU per page, memory, wake-ups and jitter beside vmagent, Prometheus and a plain loop; spans; rules
	$(BENCH)/bin/python -m bench
	$(BENCH)/bin/python -m bench.spans
	$(BENCH)/bin/python -m bench.fleet

fuzz: $(FUZZ)/.installed ## coverage-guided: SECONDS for each target, TARGETS= for some of tests/fuzz/targets, a table at the end
	PYTHONPATH=agent:tests $(FUZZ)/bin/python -m fuzz.run --seconds $(SECONDS) $(FUZZ_ARGS) $(TARGETS)

load: $(READY) tools   ## 10,000 scrapes at once beside 2,000 slow clients, 1,000 reloads, 20 stops under load; some minutes
	INFEROMETER_LOAD=10000 $(BIN)/python -m pytest -s -q tests/test_load.py tests/test_life.py

performance: bench-python tools tools-bench  ## docs/performance.md and its curves, measured anew: an hour; PARTS=bench.start for one part
	for part in $(PARTS); do $(BENCH)/bin/python -m $$part --out bench/results || exit 1; done
	$(BENCH)/bin/python -m bench.report

test-gpu:                ## on a machine with an NVIDIA GPU, by its own Python: NVML call by call, joules per token
	$(PYTHON) -m bench.gpu

docs: $(READY)           ## rewrite the generated pages under docs/
	$(BIN)/python -m inferometer.cli.docs
	$(BIN)/python -m inferometer.config.docs
	$(BIN)/python -m inferometer.exposition.docs
	$(BIN)/python -m inferometer.adapters.docs
	$(BIN)/python -m inferometer.app.rules.docs
	$(BIN)/python dashboards/build.py

pictures: $(READY) tools-observability  ## docs/images: the dashboards on a demo of ten minutes, drawn by Grafana's components
	@command -v npm >/dev/null || sh tests/tools/install-debian.sh "Grafana's components come from npm" npm
	@command -v chromium >/dev/null || sh tests/tools/install-debian.sh "pictures of the dashboards" chromium
	cd dashboards/pictures && npm install --no-audit --no-fund --ignore-scripts --silent
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pillow
	$(BIN)/python dashboards/pictures/stage.py --out docs/images

image: $(READY) tools    ## the image without an engine or a registry, and a test that runs it; needs root, buildah, mmdebstrap
	@command -v buildah mmdebstrap >/dev/null || sh tests/tools/install-debian.sh "an image without an engine" buildah mmdebstrap
	PYTHON=$(BIN)/python sh tests/image/build.sh $(CURDIR)/.cache/image
	INFEROMETER_IMAGE=$(CURDIR)/.cache/image $(BIN)/python -m pytest -s tests/test_image.py

lock:                    ## rewrite requirements/*.txt from pyproject.toml: every version and the hash of every file
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	sh requirements/lock.sh .cache/lock/bin/uv

audit:                   ## known vulnerabilities of what is locked; asks PyPI
	$(PYTHON) -m venv .cache/audit
	.cache/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	for lock in runtime dev build; do .cache/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/$$lock.txt || exit 1; done

bandit:                  ## the agent's code, by bandit; each exception has its reason beside it
	$(PYTHON) -m venv .cache/bandit
	.cache/bandit/bin/python -m pip install --quiet --disable-pip-version-check bandit
	.cache/bandit/bin/bandit --quiet --recursive --configfile pyproject.toml agent

sbom:                    ## what the image's Python part is made of: build/sbom.json, CycloneDX
	rm -rf .cache/sbom
	$(PYTHON) -m venv .cache/sbom
	.cache/sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	.cache/sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	.cache/sbom/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation .
	.cache/sbom/bin/python -m pip uninstall --quiet --yes setuptools
	rm -rf build/lib build/bdist.*
	$(PYTHON) -m venv .cache/sbom-tool
	.cache/sbom-tool/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom
	mkdir -p build
	.cache/sbom-tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json .cache/sbom/bin/python

charts: $(CHARTS)/.installed  ## rewrite what follows from other files under helm/
	$(CHARTS)/bin/python helm/build.py

# Outside parts that tests use for real. Where one cannot be had its test says so, and fails in CI.
tools:
	@command -v promtool >/dev/null || sh tests/tools/install-debian.sh "promtool checks our /metrics" prometheus
	@command -v zsh >/dev/null && command -v fish >/dev/null || sh tests/tools/install-debian.sh "shells that run their completion" zsh fish
	@command -v openssl >/dev/null || sh tests/tools/install-debian.sh "certificates for TLS tests" openssl
	@command -v tmux >/dev/null || sh tests/tools/install-debian.sh "a terminal to drive inferometer top in" tmux
	@command -v cc >/dev/null || sh tests/tools/install-debian.sh "a GPU driver of our own for tests, in C" gcc libc6-dev

tools-observability:
	@command -v prometheus >/dev/null && command -v prometheus-alertmanager >/dev/null || \
	  sh tests/tools/install-debian.sh "a real Prometheus and Alertmanager" prometheus prometheus-alertmanager
	@command -v vmalert >/dev/null || sh tests/tools/install-debian.sh "rules on VictoriaMetrics" victoria-metrics

tools-bench:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || \
	  sh tests/tools/install-debian.sh "nginx serves the pages that are read in the bench" nginx-light
	@command -v vmagent >/dev/null || sh tests/tools/install-debian.sh "vmagent, a peer in the bench" victoria-metrics
	@command -v prometheus >/dev/null || sh tests/tools/install-debian.sh "Prometheus, a peer in the bench" prometheus

$(RUNS): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tests/tools/install-debian.sh "virtual environments" python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(READY): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(BENCH)/.installed: pyproject.toml
	@$(SYSTEM_PYTHON) -c 'import ensurepip' 2>/dev/null || sh tests/tools/install-debian.sh "Debian's Python, as in the image" python3-venv
	$(SYSTEM_PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# atheris has wheels for few releases of Python, so that it lives apart from the tests.
$(FUZZ)/.installed: tests/fuzz/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< --editable '.[grpc]'
	touch $@

$(CHARTS)/.installed: helm/tests/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(CHARTS)
	$(CHARTS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< --editable .
	$(PYTHON) -m venv $(CHARTS)/checkov
	$(CHARTS)/checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov
	touch $@

clean:
	rm -rf $(VENV) build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache agent/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
