# What a developer types; CI (.ci/run) types the same. .venv makes itself on first use.
#
# Two stamps inside .venv say what is installed: .runtime (enough for the demo) and .dev (everything). They depend on
# the pinned requirements, so that a changed pin installs itself, and a second run starts at once.

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check install -qq
# Folders that mypy and ruff look at; mypy stops at one that isn't there.
CODE := $(wildcard pixie_proxy tests benchmarks)
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pips in one .venv would race; the tools use all cores by themselves
.PHONY: help demo test system-test lint format bench torture image-test screenshots requirements clean

help:  ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '%-20s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.runtime  ## Serve with a built-in upstream that draws pictures: no key needed (ARGS="--port 9000")
	$(BIN)/pixie demo $(ARGS)

PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

test: $(VENV)/.dev  ## Run the tests on all cores (ARGS="-k name -x")
	$(PYTEST) -m 'not system and not torture' $(ARGS)

system-test: $(VENV)/.dev  ## Run those with Chromium, S3 servers, front proxies, failing disks, several hosts: ten minutes
	$(PYTEST) -m 'system and not torture' $(ARGS)

lint: $(VENV)/.dev  ## Check style, types, layers and the Dockerfile
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.dev  ## Mend what ruff can mend by itself
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.dev  ## Measure against nginx and a bare aiohttp pass-through, side by side
	$(BIN)/python -m benchmarks $(ARGS)

# ONLY="R12" or "R1 or R2": the statements of docs/guarantees.md. A test here may well be silent for many minutes.
torture: $(VENV)/.dev  ## Cut power, cut networks, flood: half an hour, one test at a time (ONLY=R12)
	$(BIN)/python -m pytest -v -m 'torture$(if $(ONLY), and ($(ONLY)))' -o faulthandler_timeout=3600 $(ARGS)

# Both files hold hashes and no index's address: whoever installs chooses where from. --universal: one file for Linux,
# macOS and every Python from 3.11 on. The second is held to the first, so that the demo runs what the tests ran.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command "make requirements"

requirements: $(VENV)/.dev  ## Pin the newest versions that pyproject.toml allows
	$(COMPILE) --upgrade --all-extras --output-file requirements-dev.txt
	$(COMPILE) --upgrade --extra postgres --extra build --constraint requirements-dev.txt --output-file requirements.txt

# Without an engine: buildah and mmdebstrap build it, root runs it in namespaces. A minute, or two.
image-test: $(VENV)/.dev  ## Build the container image and run it as the README does (root)
	$(BIN)/python -m pytest -v -s -m image -o faulthandler_timeout=900 $(ARGS)

screenshots: $(VENV)/.dev  ## Go the way of somebody new in Chromium, and keep docs/screenshots/ of it
	PIXIE_SCREENSHOTS=$(CURDIR)/docs/screenshots $(BIN)/python -m pytest tests/web/test_browser_journey.py

clean:  ## Remove .venv and everything that was generated
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# --no-deps: the requirements are complete, and pip would look for newer ones. --no-build-isolation: the build backend
# is one of them. --no-compile: Python compiles what is imported, which is less than what is installed.
$(VENV)/.runtime: $(BIN)/python pyproject.toml requirements.txt
	@echo "Installing what pixie runs on into $(VENV) (once, about 20 seconds) ..."
	@$(PIP) --no-compile --no-deps --require-hashes --requirement requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml requirements-dev.txt
	@echo "Installing what pixie is developed with into $(VENV) (once, about 40 seconds) ..."
	@$(PIP) --no-compile --no-deps --require-hashes --requirement requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime  # the larger set includes the smaller

# The first Python that is new enough. Debian keeps ensurepip in a package of its own, without which venv fails half-way
# with advice for root; so look first and say it in one line. --clear: what is there is not a working environment.
$(BIN)/python:
	@set -e; for python in python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "pixie_proxy needs Python 3.11 or newer; none of python3, python3.11 … python3.14 on PATH is." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python can't make a virtual environment: apt-get install $${python##*/}-venv" >&2; exit 1; \
	fi; \
	"$$python" -m venv --clear $(VENV)
