# Everything starts here: each target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
APT := build-essential pkg-config libopencv-dev libturbojpeg0-dev
ARITHMETIC := activations adversarial_methods archs attack_evals autoattack autopgd_art certify cpu_numbers crownibp data ddp duet \
  golden graph imagenet lipschitz lipschitz_methods local_lipschitz methods monitor pgd pipelines ready robust run \
  similarity_command smoothing smoothing_methods speed study switches transfer_methods weights worst_losses
CPUS := OMP_NUM_THREADS=2 OMP_NUM_THREADS=4 ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_MAX_CPU_ISA=AVX2 \
  ONEDNN_MAX_CPU_ISA=AVX512_CORE ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2
TESTED := slurm-wlm slurmctld slurmd slurmdbd munge mariadb-server texlive-science texlive-latex-recommended \
  chromium

.PHONY: install system apt system-test apt-test quickstart test test-cpus chaos gpu-check lint format

quickstart: install  ## train, certify and time on bundled digits, then print the report
	$(BIN)/python -m bench.submit manifests/quickstart.yaml --launcher local
	$(BIN)/python -m reports manifests/quickstart.yaml

# The processes that the tests start share the bytecode of this project's files.
test: install system-test  ## every test, those of the cluster on a Slurm of its own
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=10

test-cpus: install  ## the tests of arithmetic as on other processors: each instruction set and number of threads in turn
	@for cpu in $(CPUS); do echo "$$cpu"; env OMP_NUM_THREADS=1 $$cpu \
	  $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARITHMETIC:%=tests/test_%.py) || exit; done

chaos: install system-test  ## 20 minutes of disturbances: of a Slurm cluster, manifests, records and files; then a table
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --minutes 20

gpu-check:  ## what works on this machine's GPU, and how fast: nine minutes at most; again: continues; installs nothing
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m bench.gpu_check

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bench crt launchers reports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

# One line a step; what it prints is kept in install.log, whose end a failure shows.
LOG := install.log
define step
	@echo "$(1) ..."; \
	{ echo; echo "== $(1)"; $(2); } >>$(LOG) 2>&1 </dev/null || \
	{ tail -n 40 $(LOG); echo "failed: $(1) (everything it printed: $(LOG))" >&2; exit 2; }
endef
APT_GET := apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
IS_ROOT := [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null
HAS_SYSTEM := pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v c++ >/dev/null
HAS_TESTED := (for p in slurmctld slurmd slurmdbd munged mariadbd pdflatex chromium; do command -v $$p >/dev/null || exit 1; done)

# FFCV is built from source: it needs a compiler, OpenCV and TurboJPEG.
system:
	@if $(HAS_SYSTEM); then :; elif $(IS_ROOT); then $(MAKE) --no-print-directory apt; \
	else echo "FFCV needs system packages. Run: sudo apt-get install -y $(APT)" >&2; exit 2; fi

apt:
	$(call step,Installing a compiler with OpenCV and TurboJPEG,$(APT_GET) $(APT))

# The test cluster's daemons, LaTeX and a browser; where they are missing their tests are skipped, and pytest says so.
system-test:
	@if $(HAS_TESTED); then :; elif $(IS_ROOT); then $(MAKE) --no-print-directory apt-test; \
	else echo "The tests on Slurm, of LaTeX and of pages need root and: $(TESTED)" >&2; fi

apt-test:
	$(call step,Installing Slurm and LaTeX and Chromium for the tests,$(APT_GET) $(TESTED))

# uv takes torch and torchvision from one place, so that their builds fit; pip may mix them. Bytecode is written here, so
# that no process compiles a library's sources again where it cannot keep the result.
.venv/installed: requirements.lock | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(call step,Creating .venv,[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; $(BIN)/python -m pip install uv)
	$(call step,Installing Python packages (some GB; FFCV is compiled),$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -r requirements.lock)
	@touch $@
