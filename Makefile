# Everything starts here: each target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
APT := build-essential pkg-config libopencv-dev libturbojpeg0-dev
TESTED := slurm-wlm slurmctld slurmd slurmdbd munge mariadb-server texlive-science texlive-latex-recommended

.PHONY: install system system-test quickstart test lint format

quickstart: install  ## train, certify and time on bundled digits, then print the report
	$(BIN)/python -m bench.submit manifests/quickstart.yaml --launcher local
	$(BIN)/python -m reports manifests/quickstart.yaml

test: install system-test  ## every test, those of the cluster on a Slurm of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=10

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

# FFCV is built from source: it needs a compiler, OpenCV and TurboJPEG.
system:
	@if pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v c++ >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT); \
	else echo "FFCV needs system packages. Run: sudo apt-get install -y $(APT)" >&2; exit 2; fi

# The test cluster's daemons, and LaTeX; where they are missing their tests are skipped, and pytest says so.
system-test:
	@missing=; for p in slurmctld slurmd slurmdbd munged mariadbd pdflatex; do command -v $$p >/dev/null || missing=1; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TESTED); \
	else echo "The tests on Slurm and of LaTeX need root and: $(TESTED)" >&2; fi

# uv takes torch and torchvision from one place, so that their builds fit; pip may mix them.
.venv/installed: requirements.lock | system
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install -q --python $(BIN)/python -r requirements.lock
	touch $@
