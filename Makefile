# The course in four commands: make lab · make test · make docs · make chapter NB=continual/stability_gap
# Every one sets the course up first (.venv, pinned versions), once.

PYTHON ?= python3
JOBS ?= 2
LAB_ARGS ?=
PYTEST_ARGS ?=

PY := .venv/bin/python
# The stamp's name holds the folder, so that a moved clone is set up again.
STAMP := .venv/.stamp-$(firstword $(shell printf '%s' '$(CURDIR)' | cksum))

# Measured runs use one thread a process; JupyterLab takes what the machine has.
chapter check docs test test-notebooks test-pytest: export OMP_NUM_THREADS := 1
chapter check docs test test-notebooks test-pytest: export OPENBLAS_NUM_THREADS := 1

.PHONY: help setup lab chapter check test test-notebooks test-pytest test-cuda benchmark docs export clean distclean
.DEFAULT_GOAL := help

help:  ## this list
	@echo "courselib: papers you can run, poke and check"
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@echo "  Settings: PYTHON=python3.12 (for the set-up), JOBS=2, LAB_ARGS='--no-browser', PYTEST_ARGS='-k data'"

$(STAMP): settings.ini constraints.txt setup.py pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "courselib: no $(PYTHON) on the path; install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python ..."; exit 1; }
	@$(PYTHON) tools/setup.py --stamp $@

setup: $(STAMP)  ## only the set-up: .venv and everything in it

lab: $(STAMP)  ## JupyterLab on the first page of the course
	@$(PY) tools/setup.py --hooks
	@.venv/bin/nbdev_trust >/dev/null 2>&1 || true
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/nbs/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

chapter: $(STAMP)  ## run one chapter and store its outputs: NB=continual/stability_gap
	@$(PY) tools/chapter.py "$(NB)"

check: $(STAMP)  ## the contract of one chapter: NB=continual/stability_gap
	@$(PY) tools/contract.py "$(NB)"

test: $(STAMP)  ## everything: export in step, every notebook, pytest
	@$(PY) tools/export.py --check
	@status=0; $(PY) tools/test_notebooks.py --jobs $(JOBS) || status=1; \
	$(PY) -m pytest tests/ -n $(JOBS) --dist loadgroup -rs $(PYTEST_ARGS) || status=1; exit $$status

test-notebooks: $(STAMP)  ## every notebook, or one: NB=continual/stability_gap
	@$(PY) tools/test_notebooks.py --jobs $(JOBS) $(NB)

test-pytest: $(STAMP)  ## pytest alone
	$(PY) -m pytest tests/ -n $(JOBS) --dist loadgroup -rs $(PYTEST_ARGS)

test-cuda: $(STAMP)  ## the cells and tests that need a GPU
	@$(PY) -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'courselib: torch sees no NVIDIA GPU here (a CPU build, or no driver)')"
	@$(PY) tools/test_notebooks.py --jobs 1 --flags cuda --containing cuda
	$(PY) -m pytest tests/ -m cuda $(PYTEST_ARGS)

benchmark: $(STAMP)  ## the estimators against what one would otherwise call, in one run
	@$(PY) tools/benchmark.py

docs: $(STAMP)  ## the documentation site, into _docs/
	$(PY) tools/site/build.py

export: $(STAMP)  ## nbs/ -> courselib/, README.md
	@$(PY) tools/export.py

clean:  ## what building left behind (keeps .venv)
	rm -rf _docs _proc _site_src build dist .cache .pytest_cache .hypothesis *.egg-info
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print | xargs rm -rf

distclean: clean  ## and .venv too
	rm -rf .venv
