# Two commands do all the set-up: `make serve` and `make test`. Both need only python3 (3.11 or newer).
PYTHON ?= python3
CHECKPOINT := checkpoints/digits.safetensors
HELD_OUT := checkpoints/digits-held-out
ARGS ?=

# One environment for every checkout with the same lock file, so that a second clone starts at once.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vggserve
KEY := $(shell $(PYTHON) -c 'import hashlib, sys; print("%d.%d-" % sys.version_info[:2] + hashlib.sha256(open("requirements.lock", "rb").read()).hexdigest()[:12])')
VENV := $(CACHE)/venv-$(KEY)
READY := $(VENV)/.ready
PY := $(VENV)/bin/python

.PHONY: help serve train test check lock
help:
	@echo "make serve   train a small checkpoint if there is none, and serve it on http://127.0.0.1:8000"
	@echo "make train   python -m training with ARGS, for example ARGS='--data digits --out checkpoints/a.safetensors'"
	@echo "make test    lint, types, layering and every test"
	@echo "make check   lint and types alone"
	@echo "make lock    solve the dependencies anew (needs uv)"

# Its name has the lock file's hash, so its age says nothing: a fresh clone's lock file is always the newer one.
$(READY): | requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is %d.%d, but must be 3.11 or newer" % sys.version_info[:2])'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --requirement requirements.lock
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

test: check
	$(PY) -m pytest $(ARGS)

lock:
	uv pip compile pyproject.toml --extra train --extra tensorboard --extra export --extra dev --universal --no-annotate --custom-compile-command 'make lock' --output-file requirements.lock
