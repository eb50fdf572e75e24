"""Fixtures of several tests: real images where they are installed, digits, a tiny cell."""

import os
import shutil
from pathlib import Path

import messages
import pytest
import torch

from bench.manifest import Manifest, read_manifest

SURROUNDINGS = ("SLURM_", "SBATCH_", "SRUN_", "MASTER_", "TORCHELASTIC_", "SUBMITIT_")
"""Prefixes of the variables that an allocation or another launcher leaves in the environment."""
OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables that change how tables are printed."""


def pytest_configure(config: pytest.Config) -> None:
    for name in list(os.environ):
        if name.startswith(SURROUNDINGS) or name in OTHERS + TERMINAL:
            del os.environ[name]
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(2)
    if file := os.environ.get("GOLDEN_MESSAGES"):
        config.pluginmanager.register(messages.Recorder(Path(file).absolute()))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Counts are kept for this session alone, for all its processes; the user's are neither read nor added to."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder)


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real CIFAR-10 zips: beside the checkout, or where BENCH_TEST_DATA says."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    for folder in (Path(os.environ.get("BENCH_TEST_DATA", beside)), beside):
        if (folder / "cifar10-test.zip").exists():
            return folder
    pytest.skip("no cifar10-test.zip in ../shared/data or in BENCH_TEST_DATA")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds the bundled digits."""
    from crt.data import DATASETS
    from crt.data.beton_file import ensure

    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        ensure(DATASETS["digits"], split, folder)
    return folder


TINY = """
title: tiny
dataset: digits
pipeline: plain
loader: {loader}
threat: {threat}
images: 128
evals: {evals}
cells:
  - method: {method}
    arch: cnn2c2f
    seed: {seed}
    ranks: {ranks}
    recipe: &r {{epochs: {epochs}, batch_size: 32, lr: 0.01, compute: {compute}}}
    teacher: {teacher}
"""


@pytest.fixture
def tiny(tmp_path: Path):
    """A one-cell manifest with the given differences from Standard, three epochs, torch loader."""

    def make(**changes) -> Manifest:
        values = {
            "loader": "torch",
            "method": "Standard",
            "epochs": 3,
            "compute": "exact",
            "ranks": 1,
            "seed": 0,
            "evals": "[]",
            "threat": "{norm: l2, sigma: 0.25}",
            "teacher": "null",
        }
        path = tmp_path / "tiny.yaml"
        path.write_text(TINY.format(**(values | changes)))
        return read_manifest(path)

    return make


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # A container may lack what the sandbox needs, and these pages are the tests' own.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a file in a tab; the tab must write nothing to the console and ask for no other file."""
    contexts, noise = [], []

    def visit(file: Path, width: int = 1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: noise.append(message.text))
        tab.on("pageerror", lambda error: noise.append(str(error)))
        tab.on("request", lambda request: noise.append(request.url) if request.url != file.as_uri() else None)
        tab.goto(file.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    # A file that the page itself holds is no request to anywhere.
    assert not [line for line in noise if not line.startswith(("blob:", "data:"))]
