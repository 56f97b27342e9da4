# CNN Lens: `make` lists what can be done. `run` and `test` do all the set-up themselves, once.
.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-ray check bench guards load train train-photonet train-transformer chromium clean
.DELETE_ON_ERROR:

PORT ?= 8501
HOST ?= localhost
JOBS ?= 2

PY := .venv/bin/python
# Stamps lie inside .venv: deleting that folder is starting afresh.
RUN := .venv/.requirements
DEV := .venv/.requirements-dev
RAY := .venv/.requirements-ray
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUN) ## Start the app and print its address; PORT=8502 moves it, HOST=0.0.0.0 opens it to the network
	@# The address to print is named, or Streamlit would ask a server on the internet for it.
	@shown=$(if $(filter 0.0.0.0 ::,$(HOST)),$$(hostname -I | cut -d' ' -f1),$(HOST)); \
	exec $(PY) -m streamlit run app.py --server.port $(PORT) --server.address $(HOST) \
		--browser.serverAddress "$${shown:-localhost}"

test: check $(DEV) chromium ## Everything: style, types, unit and contract tests, the app in a real browser
	$(PY) -m pytest -n $(JOBS) --dist loadgroup

test-ray: $(RAY) ## Batch jobs on a Ray cluster of two nodes of this machine; installs Ray
	$(PY) -m pytest -m ray tests/test_ray.py

test-fast: $(DEV) ## What takes a minute or two: no browser, nothing marked slow
	$(PY) -m pytest -n $(JOBS) --dist loadgroup -m "not slow and not browser and not ray"

check: $(DEV) ## Style, format and types; edits nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(DEV) chromium ## Every benchmark, as ratios against peers
	@set -e; for script in benchmarks/[!_]*.py; do \
		echo; echo "== $$script"; PYTHONPATH=. $(PY) "$$script"; \
	done

guards: $(DEV) chromium ## Take away each guard against bad input once, and see a test fail; an hour
	$(PY) tests/guards.py $(ARGS)

load: $(DEV) chromium ## Thirty people at one server, 25 minutes; ARGS="--clients 5 --seconds 20 --repeats 1" is short
	PYTHONPATH=. $(PY) -m benchmarks.load $(ARGS)

train: $(RUN) ## Train LeNet-5 on MNIST again
	$(PY) -m models.train_lenet $(ARGS)

train-photonet: $(RUN) ## Train PhotoNet on CIFAR-10 again
	$(PY) -m models.train_photonet $(ARGS)

train-transformer: $(RUN) ## Train the LeNet with a spatial transformer on distorted MNIST again
	$(PY) -m models.train_transformer $(ARGS)

clean: ## Remove caches and build/; delete .venv as well to start afresh
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# ---- set-up -----------------------------------------------------------------------------------------------

.venv/bin/python:
	@python=; for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "CNN Lens needs Python 3.11 or later, and finds none. On Debian 12, Ubuntu 24.04 or later:" \
			"apt-get install python3 python3-venv" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$$python lacks the module that makes virtual environments. Install it, then run make again:" \
			"apt-get install python$$version-venv" >&2; exit 1; \
	fi; \
	echo "Making .venv with $$($$python --version)"; \
	$$python -m venv .venv || { rm -rf .venv; exit 1; }

$(RUN): requirements.txt | .venv/bin/python
	@echo "Installing what the app needs; the first time takes a few minutes"
	$(PIP) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-umap.txt $(RUN)
	@echo "Installing what the tests need"
	$(PIP) -r requirements-dev.txt
	@touch $@

$(RAY): requirements-ray.txt $(DEV)
	@echo "Installing Ray"
	$(PIP) -r requirements-ray.txt
	@touch $@

# Not a stamp: a browser can be taken off the system between two runs. `--version` rather than `command -v`, for on
# Ubuntu chromium-browser may be a stub that only tells to install a snap.
FIND_BROWSER = for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	"$$name" --version >/dev/null 2>&1 && exit 0; done

chromium:
	@$(FIND_BROWSER); \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	else as_root=no; fi; \
	if [ "$$as_root" != no ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests"; \
		export DEBIAN_FRONTEND=noninteractive; \
		$$as_root apt-get update -qq; \
		$$as_root apt-get install -y -qq chromium >/dev/null || $$as_root apt-get install -y -qq chromium-browser; \
		hash -r; $(FIND_BROWSER); \
	fi; \
	echo "The browser tests need Chromium or Chrome, and none was found or could be installed. Install one, for" \
		"example with: sudo apt-get install chromium" >&2; exit 1
