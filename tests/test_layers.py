"""Imports only go down: between the packages, between the floors within each, and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY = {
    "reports": {"reports", "bench", "crt"},
    "bench": {"bench", "crt", "launchers"},
    "launchers": {"launchers"},
    "crt": {"crt"},
}
FLOORS = {
    "crt": (
        ("text", "quantity", "lazy", "distributed", "judgement", "disk", "sequential", "pickled"),
        ("screen", "table_layout", "threat", "sealed"),
        ("fitted_table",),
        ("data",),
        ("models",),
        ("outline",),
        ("plugins",),
        ("training",),
        ("attacks", "archs"),
        ("lipschitz",),
        ("evals", "methods"),
    ),
    "bench": (
        ("published", "plain_eager"),
        ("command", "cell", "records"),
        ("build",),
        ("manifest",),
        ("measure", "results"),
        ("jobs",),
        ("plan",),
        ("commands",),
        ("submit", "status", "cancel", "certify", "attack", "speed", "similarity", "gpu_check", "export", "import_"),
        ("__main__",),
    ),
    "reports": (
        ("render", "interval_coverage", "front_coverage", "anytime_coverage", "options", "seed_model"),
        ("seed_simulation", "precision_coverage"),
        ("tables", "figures", "seed_coverage"),
        ("frames", "observations"),
        ("header", "competition", "students", "studies", "plots"),
        ("verdict",),
        ("page",),
        ("report", "board"),
        ("site",),
        ("__main__", "coverage"),
    ),
}
"""Modules and packages of each package, the lowest floor first. Those on one floor do not import one another."""
PLUGINS = ("methods", "evals", "archs")
# Read before any test runs: numba's finalizers raise when FFCV's loaders are collected, and Python 3.11's parser cannot
# bear that in its midst.
TREES = {file: ast.parse(file.read_bytes()) for package in MAY for file in sorted((ROOT / package).rglob("*.py"))}
EXTERNAL = {"crt/text.py", "bench/commands/smoothing_tsv.py", "crt/data/cifar.py"}
"""Files that ask streams and exceptions of other libraries for what some of them have."""
COMMAND = "bench.__main__"
"""The command line over all packages, which none of them imports."""


def module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): file for file in TREES}


def imports(file: Path, typing: bool = True) -> set[str]:
    """Names of the modules that a file imports anywhere; without `typing`, those for type checkers are left out."""
    names = set()
    nodes = list(ast.walk(TREES[file]))
    if not typing:
        checked = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        hidden = {node for block in checked for node in ast.walk(block)}
        nodes = [node for node in nodes if node not in hidden]
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in MODULES else node.module)
    return names


def part(name: str) -> str:
    """The module or package right below the top one; empty for the top one itself."""
    return [*name.split("."), ""][1]


def test_packages_import_only_what_lies_below():
    assert len(TREES) > 25
    for file in TREES:
        assert COMMAND not in imports(file), file
        if module(file) == COMMAND:
            continue
        ours = {name.split(".")[0] for name in imports(file)} & set(MAY)
        assert ours <= MAY[module(file).split(".")[0]], f"{file} imports {ours}"


@pytest.mark.parametrize("package", FLOORS)
def test_every_part_of_a_package_stands_on_a_floor(package):
    standing = [name for floor in FLOORS[package] for name in floor]
    parts = {part(name) for name in MODULES if name.startswith(f"{package}.")}
    assert sorted(standing) == sorted(parts)


@pytest.mark.parametrize("package", FLOORS)
def test_imports_within_a_package_go_down(package):
    floors = {name: number for number, floor in enumerate(FLOORS[package]) for name in floor}
    up = []
    for name, file in MODULES.items():
        for other in imports(file):
            if not name.startswith(f"{package}.") or not other.startswith(f"{package}."):
                continue
            if part(other) != part(name) and floors[part(other)] >= floors[part(name)]:
                up.append(f"{name} -> {other}")
    assert not up


def test_no_modules_import_one_another_in_a_circle():
    graph = {name: imports(file, typing=False) & set(MODULES) - {name} for name, file in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_methods_and_evaluations_do_not_import_one_another():
    for package in PLUGINS:
        for file in (ROOT / "crt" / package).glob("*.py"):
            if offers(file):
                others = {name for name in imports(file) if name.startswith(f"crt.{package}.")}
                assert not {name for name in others if offers(MODULES[name])}, file


def offers(file: Path) -> bool:
    """True for a module of plug-ins, false for one that holds what they share."""
    for node in TREES[file].body:
        targets = [*getattr(node, "targets", ()), getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return file.name != "__init__.py" and bool(ast.literal_eval(node.value))
    return False


def test_no_contract_is_asked_for_by_an_attribute_s_name():
    """A caller may read a name that data holds, and never asks whether an object has a method or a flag."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "hasattr", f"{file}:{node.lineno}"
                if node.func.id == "getattr" and len(node.args) == 3:
                    assert file.relative_to(ROOT).as_posix() in EXTERNAL, f"{file}:{node.lineno}"


def test_ffcv_is_imported_only_where_data_is_read_or_written():
    for file in TREES:
        if file.parent.name != "data":
            assert not {name for name in imports(file) if name.split(".")[0] == "ffcv"}, file


def test_provenance_imports_nothing_that_counts_operations():
    reached, left = set(), ["bench.measure.provenance"]
    while left:
        name = left.pop()
        reached.add(name)
        left += (imports(MODULES[name], typing=False) & set(MODULES)) - reached
    assert not {name for name in reached if name.startswith("bench.build")}
