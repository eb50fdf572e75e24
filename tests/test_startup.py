"""Commands start at once: help, refusals, status and cancel import none of the libraries that compute."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from bench import __main__ as bench_main
from bench.manifest import read_manifest
from crt.data import DATASETS
from crt.models.image_size import only_side
from crt.outline import outlined
from crt.plugins import declaration, find, plugins
from crt.threat import Threat

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "sklearn", "ffcv")
COMMANDS = (
    "bench",
    "bench.attack",
    "bench.submit",
    "bench.status",
    "bench.cancel",
    "bench.certify",
    "bench.attack",
    "bench.speed",
    "bench.similarity",
    "bench.export",
    "bench.import_",
    "reports",
    "reports.coverage",
    "crt.data.beton",
)
RUN = """
import json, runpy, sys
module, report, *arguments = sys.argv[1:]
sys.argv = [module, *arguments]
code = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=False)
except SystemExit as end:
    code = end.code or 0
json.dump([code, sorted(name for name in sys.modules if "." not in name)], open(report, "w"))
"""


def run(tmp_path: Path, module: str, *arguments: str) -> tuple[int, set[str], str]:
    """Exit code, top-level modules and error output of a command in a process of its own."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-c", RUN, module, str(report), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    code, modules = json.loads(report.read_text())
    return code, set(modules), done.stderr


@pytest.mark.parametrize("module", COMMANDS)
def test_help_needs_typer_alone(tmp_path, module):
    code, modules, _ = run(tmp_path, module, "--help")
    assert code == 0
    assert not modules & {*HEAVY, "numpy", "pydantic", "rich", "yaml", "submitit", "PIL"}


@pytest.mark.parametrize("name", bench_main.COMMANDS)
def test_help_of_one_of_all_commands_needs_typer_alone(tmp_path, name):
    code, modules, _ = run(tmp_path, "bench", name, "--help")
    assert code == 0
    assert not modules & {*HEAVY, "numpy", "pydantic", "rich", "yaml", "submitit", "PIL"}


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text((ROOT / "manifests" / "quickstart.yaml").read_text())
    return path


WRONG = {
    "unknown method": ("method: Standard", "method: Standrad", "'Standrad'"),
    "unknown argument": ("method: Gaussian", "method: {SAT: {alfa: 1}}", "alfa"),
    "argument of the wrong type": ("SmoothMix: {warmup: 2}", "SmoothMix: {T: x}", "SmoothMix.T"),
    "argument that a method checks": ("method: Gaussian", "method: LMT", "eps above 0"),
    "unknown network": ("arch: cnn2c2f", "arch: cnn2c3f", "'cnn2c3f'"),
    "network for other images": ("arch: cnn2c2f", "arch: imagenet_alexnet", "does not take images of digits"),
    "unknown evaluation": ("Smoothing", "Smothing", "'Smothing'"),
    "unknown key": ("dataset: digits", "dataset: digits\npipelin: crt", "pipelin"),
    "no YAML": ("dataset: digits", "dataset: [digits", "plain YAML"),
    "recipe": ("batch_size: 64", "batch_size: 0", "batch_size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_manifest_is_refused_without_torch(tmp_path, table, name):
    before, after, said = WRONG[name]
    assert before in table.read_text()
    table.write_text(table.read_text().replace(before, after, 1))
    code, modules, errors = run(tmp_path, "bench.submit", str(table))
    assert code == 2
    assert errors.startswith(f"error: {table}") and said in errors and errors.count("\n") == 1
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("module", ["bench.status", "bench.cancel"])
@pytest.mark.parametrize("manifest", ["quickstart.yaml", "table1.yaml", "duet/table1.yaml", "rrm/table2.yaml"])
def test_status_and_cancel_read_manifests_without_torch(tmp_path, module, manifest):
    code, modules, _ = run(tmp_path, module, str(ROOT / "manifests" / manifest), "--runs", str(tmp_path / "runs"))
    # Without a cluster there is nothing to cancel, which `bench.cancel` says.
    assert code == (0 if module == "bench.status" else 2)
    assert not modules & {*HEAVY, "numpy", "PIL", "submitit"}


def test_a_plan_needs_no_library_of_its_jobs(tmp_path):
    # The operations of these cells are counted, by torch, the first time.
    for _ in range(2):
        arguments = ("table4", "--dry-run", "--launcher", "local", "--runs", str(tmp_path / "runs"))
        code, modules, _ = run(tmp_path, "bench.submit", *arguments, "--data", str(tmp_path / "data"))
    assert code == 0 and not modules & {*HEAVY, "numpy", "PIL", "submitit"}


def test_a_report_is_made_without_torch(tmp_path):
    frozen = ROOT / "tests/golden/report"
    manifest, runs = frozen / "manifests/smoothing.yaml", frozen / "runs"
    code, modules, _ = run(tmp_path, "reports", str(manifest), "--runs", str(runs), "--allow", "precision")
    assert code == 0 and not modules & {"torch", "torchvision", "matplotlib", "ffcv"}


DECLARE = """
import json, sys
from crt.plugins import declared
from crt.threat import Threat
facts, threat = {}, Threat(norm="l2", eps=0.25, sigma=0.25)
for package in ("crt.methods", "crt.evals", "crt.archs"):
    for name, kind in declared(package).items():
        facts[f"{package}.{name}"] = FACTS
assert "torch" not in sys.modules
print(json.dumps(facts))
"""
FACTS = (
    '{"doc": kind.__doc__, "facts": [str(getattr(kind(threat=threat), fact)) for fact in {"crt.methods":'
    ' ("chunks", "replays", "phase_boundaries", "steady_from_epoch", "needs_eps", "needs_teacher", "epochs_of",'
    ' "makes_dataset"),'
    ' "crt.evals": ("kind", "draws", "forwards", "measures_radius", "budget"), "crt.archs": ()}[package]]}'
)


def test_a_plugin_declares_the_same_in_outline_as_in_full():
    done = subprocess.run(
        [sys.executable, "-c", DECLARE.replace("FACTS", FACTS)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    facts, threat = {}, Threat(norm="l2", eps=0.25, sigma=0.25)
    for package in ("crt.methods", "crt.evals", "crt.archs"):
        for name, kind in plugins(package).items():
            facts[f"{package}.{name}"] = eval(FACTS, {"package": package, "kind": kind, "threat": threat})
    assert json.loads(done.stdout) == facts


IDS = """
import json, sys
from pathlib import Path
from bench.manifest import read_manifest
print(json.dumps([cell.id for file in sys.argv[1:] for cell in read_manifest(Path(file), networks=False).cells]))
assert "torch" not in sys.modules
"""


def test_cells_have_the_same_ids_in_outline_as_in_full():
    files = sorted(map(str, (ROOT / "manifests").glob("**/*.yaml")))
    done = subprocess.run([sys.executable, "-c", IDS, *files], capture_output=True, text=True, cwd=ROOT, check=True)
    full = [cell.id for file in files for cell in read_manifest(Path(file), networks=False).cells]
    assert len(full) > 1000 and json.loads(done.stdout) == full


def test_modules_imported_in_outline_are_forgotten():
    attacks, method = import_module("crt.attacks.common"), import_module("crt.training.method")
    for name in ("crt.attacks.common", "crt.training.method"):
        del sys.modules[name]
    try:
        with outlined():
            import crt.attacks.common

            assert crt.attacks.common is not attacks
        assert "crt.attacks.common" not in sys.modules
    finally:
        sys.modules |= {"crt.attacks.common": attacks, "crt.training.method": method}
        sys.modules["crt.attacks"].common, sys.modules["crt.training"].method = attacks, method
    assert declaration("crt.methods", "SAT") is find("crt.methods", "SAT")


@pytest.mark.parametrize("arch", sorted(plugins("crt.archs")))
def test_networks_are_marked_that_take_images_of_one_size_alone(arch):
    sides = []
    for name in ("cifar10", "imagenet"):
        shape = DATASETS[name].shape
        with torch.device("meta"), torch.no_grad():
            body, width = find("crt.archs", arch)()
            try:
                taken = body.eval()(torch.empty(1, *shape)).shape == (1, width)
            except RuntimeError:
                taken = False
        sides += [shape[1]] * taken
    assert sides == ([marked] if (marked := only_side(find("crt.archs", arch))) else [32, 224])
