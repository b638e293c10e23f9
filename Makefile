# make clip    a clip with its picture, in clips/     PROMPT="slow dub techno, 118 bpm" SECONDS=60 change it
# make test    all tests
# make check   format, lint, types, import contracts, tests
# TORCH=cpu, auto or cu130 chooses another build of torch (uv's --torch-backend); the default is the registry's.

PROMPT ?= warm lo-fi beat with electric piano, 80 bpm, D minor
SECONDS ?= 30
TORCH ?=
export PROMPT SECONDS

# Where the system keeps certificates, uv shall trust those (a company's proxy), else the ones that it brings.
CERTIFICATES := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)
export UV_SYSTEM_CERTS ?= $(CERTIFICATES)
export UV_NATIVE_TLS ?= $(CERTIFICATES)

BIN := .venv/bin
READY := .venv/ready$(TORCH:%=-%)

.PHONY: clip test check format help
help:
	@sed -n 's/^# //p' Makefile

clip: $(READY)
	@mkdir -p clips
	$(BIN)/audiogen generate "$$PROMPT" --seconds "$$SECONDS" --plot -o "clips/clip-$$(date +%Y%m%d-%H%M%S).wav"

test: $(READY)
	$(BIN)/python -m pytest -n 2 -rs

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 -rs

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torchaudio imports only with the torch of the same registry. pip may be set up to take another one, so pip installs
# no more than uv, and uv the rest.
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))

$(READY): pyproject.toml
	@set -e; \
	test -x $(BIN)/python && $(BIN)/python -c "$(USABLE)" || rm -rf .venv; \
	if uv --version >/dev/null 2>&1; then \
		uv=uv; \
		test -d .venv || uv venv --python ">=3.11,<3.15" .venv; \
	else \
		uv=$(BIN)/uv; \
		if ! test -d .venv; then \
			for python in python3 python3.13 python3.12 python3.11 python3.14 none; do \
				$$python -c "$(USABLE)" >/dev/null 2>&1 && break || true; \
			done; \
			if test $$python = none; then \
				echo "audiogen needs Python 3.11 to 3.14 with its venv module (Debian: apt-get install python3-venv)"; \
				exit 1; \
			fi; \
			$$python -m venv .venv; \
		fi; \
		test -x $$uv || $(BIN)/python -m pip install --quiet uv; \
	fi; \
	$$uv pip install --python $(BIN)/python \
		$(TORCH:%=--torch-backend=% --reinstall-package=torch --reinstall-package=torchaudio) -e ".[dev]"; \
	touch $@
