# `make demo` and `make test` need nothing but a Python 3.12 to 3.14: the first run makes .venv and
# installs into it, later runs start at once. Words for the program go into ARGS, more extras into
# EXTRAS:  make test ARGS="-k pages -x"     make test EXTRAS=cuda13

PYTHON_IN_VENV := .venv/bin/python
, := ,
MORE := $(if $(EXTRAS),$(,)$(EXTRAS))

# One process a core; neighbouring tests share one, for what they build for all of a file. More
# than four would need much memory. With a debugger:  make test ARGS="-n 0 --pdb"
AT_ONCE := -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two targets would install into one .venv
.PHONY: help demo test lint format notebook clean clean-all

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo:  ## serve a small model and watch its pages
	@tools/bootstrap.sh $(EXTRAS)
	@$(PYTHON_IN_VENV) -m jpaged.demo $(ARGS)

test:  ## run the tests, all but the slow ones
	@tools/bootstrap.sh test,dev$(MORE)
	@$(PYTHON_IN_VENV) -m pytest -q $(AT_ONCE) --durations=10 -m "not slow" $(ARGS)

lint:  ## check format, lint and types
	@tools/bootstrap.sh test,dev$(MORE)
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m pyright

format:  ## format, and mend what ruff can mend
	@tools/bootstrap.sh test,dev$(MORE)
	@$(PYTHON_IN_VENV) -m ruff format .
	@$(PYTHON_IN_VENV) -m ruff check --fix .

notebook:  ## open the notebooks in JupyterLab
	@tools/bootstrap.sh notebooks$(MORE)
	@$(PYTHON_IN_VENV) -m jupyterlab notebooks $(ARGS)

clean:  ## remove caches and build output
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

clean-all: clean  ## remove .venv too
	rm -rf .venv
