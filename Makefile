# `make serve` and `make test` do all of the set-up. They need python3 (3.11 or newer) and nothing else.
PYTHON ?= python3
CHECKPOINT := checkpoints/digits.safetensors
HELD_OUT := checkpoints/digits-held-out
ARGS ?=

# TORCH=cpu installs torch's CPU build, which has no CUDA libraries. It is not on PyPI and so not in the lock file.
TORCH ?= cuda
CPU_INDEX := https://download.pytorch.org/whl/cpu

# All checkouts with the same lock file share one environment, so a second clone starts at once.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vggserve
KEY := $(shell $(PYTHON) -c 'import hashlib, sys; print("%d.%d-" % sys.version_info[:2] + hashlib.sha256(open("requirements.lock", "rb").read()).hexdigest()[:12])')
VENV := $(CACHE)/python$(KEY)$(if $(filter cpu,$(TORCH)),-cpu)
READY := $(VENV)/.ready
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet
HAS_GPU := $(wildcard /dev/nvidia0)$(shell command -v nvidia-smi 2>/dev/null)

# sysmon, Python's own line monitoring, slows the tests least. coverage has it from Python 3.12 on.
COVERAGE_CORE = $(shell $(PY) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')

.PHONY: help serve train test check lock
help:
	@echo "make serve   start the server on http://127.0.0.1:8000; the first time, train a small digits checkpoint for it"
	@echo "make train   train a model; pass its options in ARGS: make train ARGS='--data digits --out checkpoints/a.safetensors'"
	@echo "make test    check style, types and imports, run all tests and measure their coverage; ARGS selects tests"
	@echo "make check   check style and types only"
	@echo "make lock    update the lock files after a change in pyproject.toml; needs uv. UV_ARGS=--upgrade moves to new releases"
	@echo
	@echo "The first command installs the dependencies into $(VENV)."
	@echo "Add TORCH=cpu to any command to install torch without CUDA: make serve TORCH=cpu"

# The folder's name has the hash of the lock file, so its age does not matter: a fresh clone's lock file is always newer.
# Every package is in the lock file with its hash, so pip need not look for dependencies.
$(READY): | requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is %d.%d, but must be 3.11 or newer" % sys.version_info[:2])'
	@echo "Installing the dependencies into $(VENV). pip prints nothing for several minutes."
ifeq ($(TORCH),cpu)
	@echo "Size: about 1.7 GB with torch's CPU build from $(CPU_INDEX)."
	@echo "That index is not in the lock file: the versions of torch and torchvision are checked, their hashes are not."
else
	@echo "Size: about 6.3 GB, of which torch and its CUDA libraries are 5.3 GB."
	@$(if $(HAS_GPU),:,echo "No NVIDIA GPU was found. To install torch without CUDA (about 1.7 GB), stop this and run: make $(MAKECMDGOALS) TORCH=cpu")
endif
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	sed -E '/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/,/[^\]$$/d' requirements.lock > $(VENV)/requirements.txt
	$(PIP) --no-deps --index-url $(CPU_INDEX) $$(grep -Eo '^(torch|torchvision)==[^ ]+' requirements.lock)
	$(PIP) --no-deps --require-hashes --requirement $(VENV)/requirements.txt
else
	$(PIP) --no-deps --require-hashes --requirement requirements.lock
endif
	touch $@

$(CHECKPOINT): | $(READY)
	rm -rf $(HELD_OUT)
	$(PY) -m training --data digits --out $@ --save-held-out $(HELD_OUT) --resume

serve: $(READY) $(if $(VGG_CHECKPOINT),,$(CHECKPOINT))
	@exec $(PY) -m app $(ARGS)

train: $(READY)
	@exec $(PY) -m training $(ARGS)

check: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# The floor of the coverage is in pyproject.toml. A selection of tests cannot reach it, so there it is not measured.
test: check
	$(if $(ARGS),,COVERAGE_CORE=$(COVERAGE_CORE)) $(PY) -m pytest $(or $(ARGS),--numprocesses auto --dist loadfile --cov --cov-report=term)

# uv keeps the versions that the output file has, unless it is told to upgrade. The server's lock file is a part of the other.
UV_COMPILE := uv pip compile pyproject.toml --universal --no-annotate --generate-hashes --custom-compile-command 'make lock'
lock:
	$(UV_COMPILE) --extra train --extra tensorboard --extra export --group dev --output-file requirements.lock $(UV_ARGS)
	$(UV_COMPILE) --constraint requirements.lock --output-file deploy/server.lock
