"""Imports only go down: reports -> bench -> crt, launchers; within each, as the order says."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAY = {
    "reports": {"reports", "bench", "crt"},
    "bench": {"bench", "crt", "launchers"},
    "launchers": {"launchers"},
    "crt": {"crt"},
}
# Read before any test runs: numba's finalizers raise when FFCV's loaders are collected, and Python 3.11's parser cannot
# bear that in its midst.
TREES = {file: ast.parse(file.read_bytes()) for package in MAY for file in (ROOT / package).rglob("*.py")}
COMMAND = "bench.__main__"
"""The command line over all packages, which none of them imports."""
EXTERNAL = {"crt/text.py", "bench/commands/smoothing_tsv.py", "crt/data/cifar.py"}
"""Files that ask streams and exceptions of other libraries for what some of them have."""
FOUNDATION = {"bench.cell", "bench.records.store"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_packages_import_only_what_lies_below():
    assert len(TREES) > 25
    for file in TREES:
        package = file.relative_to(ROOT).parts[0]
        assert COMMAND not in imports(file), file
        if file == ROOT / f"{COMMAND.replace('.', '/')}.py":
            continue
        ours = {name.split(".")[0] for name in imports(file)} & set(MAY)
        assert ours <= MAY[package], f"{file} imports {ours - MAY[package]}"


def test_cells_and_records_stand_on_nothing_of_bench():
    for name in FOUNDATION:
        file = ROOT / (name.replace(".", "/") + ".py")
        assert not {i for i in imports(file) if i.startswith("bench.")}, name


def test_methods_and_evaluations_do_not_import_one_another():
    for package in ("methods", "evals", "archs"):
        for file in (ROOT / "crt" / package).glob("*.py"):
            base = tuple(f"crt.{package}.{name}" for name in ("base", "attacker", "execution"))
            assert not {i for i in imports(file) if i.startswith(f"crt.{package}.") and not i.startswith(base)}, file


def test_no_contract_is_asked_for_by_an_attribute_s_name():
    """A caller may read a name that data holds, and never asks whether an object has a method or a flag."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "hasattr", f"{file}:{node.lineno}"
                if node.func.id == "getattr" and len(node.args) == 3:
                    assert file.relative_to(ROOT).as_posix() in EXTERNAL, f"{file}:{node.lineno}"


def test_ffcv_is_imported_only_where_data_is_read_or_written():
    for package in MAY:
        for file in (ROOT / package).rglob("*.py"):
            if file.parent.name != "data":
                assert not {i for i in imports(file) if i.split(".")[0] == "ffcv"}, file
