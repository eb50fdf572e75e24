"""Jobs that were queued before modules moved: they are unpickled by their modules' former names, and run."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.former_names import FORMER

ROOT = Path(__file__).parents[1]
BEFORE = Path(__file__).parent / "golden" / "jobs-before-tasks"
QUEUED = [BEFORE / f"{name}.pkl" for name in ("data", "train-teacher", "robust", "train-student", "judge", "time")]
"""Written by an earlier version's launcher, in the order in which they run, with relative folders."""
RUN = """
import sys
from submitit.core.utils import DelayedSubmission
assert not {name for name in sys.modules if name.split(".")[0] in ("bench", "crt", "launchers", "reports")}
for file in sys.argv[1:]:
    DelayedSubmission.load(file).result()
"""
ALONE = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_JOB_ID": "1",
    "SUBMITIT_LOCAL_NTASKS": "1",
    "SUBMITIT_LOCAL_LOCALID": "0",
    "SUBMITIT_LOCAL_GLOBALID": "0",
    "SUBMITIT_LOCAL_NNODES": "1",
    "SUBMITIT_LOCAL_NODEID": "0",
}
"""What submitit sets for a job of one process."""


def test_a_queued_job_of_each_kind_runs(tmp_path, monkeypatch):
    for name, value in ({"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | ALONE).items():
        monkeypatch.setenv(name, value)
    for folder in ("source", "data", "runs/logs"):
        (tmp_path / folder).mkdir(parents=True)
    command = [sys.executable, "-c", RUN, *map(str, QUEUED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data").rglob("*.beton"))) == 2
    ends = [file for file in (tmp_path / "runs").rglob("*.jsonl") if '"kind":"end"' in file.read_text()]
    kinds = {file.stem.split("-")[0] for file in ends}
    assert kinds == {"train", "judge", "time", "0of1"}
    assert len(list((tmp_path / "runs").rglob("model.pt"))) == 2


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_is_that_of_no_module(name):
    path = ROOT / name.replace(".", "/")
    assert not path.with_suffix(".py").exists() and not path.is_dir()


def test_no_code_imports_by_a_former_name():
    for folder in ("bench", "crt", "launchers", "reports", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    assert not names & set(FORMER), json.dumps([str(file), node.lineno])
