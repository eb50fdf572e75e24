"""Launchers: in this process; on this machine with a process a rank; what fails is named and does not stop others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from calls import CallTask, wave
from typer.testing import CliRunner
from waiting import HANG, hears_ctrl_c, until

from bench import cancel, status
from bench.build import cost
from bench.manifest import profile as profiles
from bench.manifest import read_manifest
from bench.plan.selection import MANIFESTS, manifest_name
from bench.plan.waves import pluralize
from bench.records import Epoch, Start, Verdict, read, read_all
from bench.submit import app
from crt import screen
from launchers import inline, local, slurm, states
from launchers.profile import Profile


def _note(path: Path, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word} {os.environ.get('RANK')} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


def _fail(path: Path, word: str) -> None:
    raise ValueError(f"{word} cannot be done")


def task(function, path: Path, word: str, ranks: int = 1) -> CallTask:
    return CallTask(name=word, ranks=ranks, function=function, args=(path, word))


def test_inline_keeps_the_order_and_refuses_ranks(tmp_path):
    out = tmp_path / "out"
    assert inline.launch([wave(task(_note, out, "a"), task(_note, out, "b")), wave(task(_note, out, "c"))]) == 0
    assert [line.split()[0] for line in out.read_text().splitlines()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="2 ranks"):
        inline.launch([wave(task(_note, out, "d"), task(_note, out, "e", ranks=2))])
    assert len(out.read_text().splitlines()) == 3


def test_local_runs_one_after_another_and_leaves_the_gpus_as_they_were(tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the new process finds this module
    tasks = [task(_note, out, "a", ranks=2), task(_fail, out, "b"), task(_note, out, "c")]
    assert local.launch([wave(*tasks)], tmp_path / "logs") == 1
    lines = out.read_text().splitlines()
    assert sorted(lines[:2]) == ["a 0 7", "a 1 7"] and lines[2:] == ["c 0 7"]
    failure = capfd.readouterr().err
    assert "failed: b" in failure and "b cannot be done" in failure


def test_submit_on_this_machine_with_two_ranks_and_again(tmp_path, digits):
    path = tmp_path / "m.yaml"
    path.write_text("""
dataset: digits
loader: device
images: 128
threat: {sigma: 0.25}
recipe: {epochs: 2, batch_size: 32, lr: 0.01}
arch: cnn2c2f
ranks: 2
evals: [Clean: {images: 5}]
cells: [{method: Gaussian}]
""")
    runs = tmp_path / "runs"
    command = [str(path), "--runs", str(runs), "--data", str(digits), "--launcher", "local"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (folder,) = runs.glob("cnn2c2f-*")
    trained = read(folder / "train.jsonl")
    assert next(r for r in trained if isinstance(r, Start)).world_size == 2
    assert [r.images for r in trained if isinstance(r, Epoch)] == [128, 128]
    judged = [read(file) for file in sorted(folder.glob("judge-*.jsonl"))]
    assert [[r.index for r in part if isinstance(r, Verdict)] for part in judged] == [[0, 2, 4], [1, 3]]
    before = len(read_all(folder))
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "Nothing left to do" in again.output
    assert len(read_all(folder)) == before
    assert torch.load(folder / "model.pt", weights_only=True)


@pytest.mark.parametrize("place", ["runs", "data"])
def test_a_folder_that_cannot_be_used_is_refused_before_anything_runs(tmp_path, digits, place):
    path = tmp_path / "m.yaml"
    path.write_text(
        "dataset: digits\narch: cnn2c2f\nrecipe: {epochs: 1, batch_size: 32, lr: 0.1}\ncells: [{method: Standard}]"
    )
    file = tmp_path / "file"
    file.write_text("")
    folders = {"runs": tmp_path / "runs", "data": digits} | {place: file / "folder"}
    command = [str(path), "--runs", str(folders["runs"]), "--data", str(folders["data"]), "--launcher", "local"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert str(file) in result.stderr and "Traceback" not in result.output


DIGITS = """
dataset: digits
loader: device
arch: cnn2c2f
images: 1437
recipe: {epochs: 1000, batch_size: 32, lr: 0.01}
cells: [{method: Standard, ranks: 2}]
"""


def test_a_bad_runs_folder_is_refused_before_digits_are_written(tmp_path):
    (tmp_path / "m.yaml").write_text(DIGITS)
    (tmp_path / "file").write_text("")
    folders = ["--runs", str(tmp_path / "file" / "runs"), "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(app, [str(tmp_path / "m.yaml"), *folders, "--launcher", "local"])
    assert result.exit_code == 2 and "--runs" in result.stderr and not (tmp_path / "data").exists()


def _session(leader: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(stat.parent.name)
    return found


def test_interrupted_it_says_so_in_a_line_and_leaves_no_process(tmp_path, digits):
    (tmp_path / "m.yaml").write_text(DIGITS)
    command = [sys.executable, "-m", "bench.submit", str(tmp_path / "m.yaml"), "--launcher", "local"]
    command += ["--runs", str(tmp_path / "runs"), "--data", str(digits)]
    root = Path(__file__).parents[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    shell = subprocess.Popen(command, **pipes, start_new_session=True, cwd=root, preexec_fn=hears_ctrl_c)
    files = (tmp_path / "runs").glob
    try:
        until(
            lambda: any(isinstance(r, Epoch) for file in files("*/train.jsonl") for r in read(file)),
            alive=lambda: shell.poll() is None,
        )
        assert len(_session(shell.pid)) == 4  # this process, submitit's controller and two ranks
        for _ in range(2):  # people press ctrl-C again
            os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
            time.sleep(0.05)
        _, said = shell.communicate(timeout=HANG)
        assert shell.returncode == 130 and said.endswith("interrupted; the same command goes on\n"), said
        assert "Traceback" not in said
        assert not _session(shell.pid)
    finally:
        for process in _session(shell.pid):
            os.kill(int(process), signal.SIGKILL)


def _tell(path: Path, word: str) -> None:
    path.write_text(str(os.getpid()))
    os.kill(int(word), signal.SIGTERM)
    time.sleep(600)


def test_told_to_end_it_ends_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            local.launch([wave(task(_tell, tmp_path / "pid", str(os.getpid())))], tmp_path / "logs")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def _on_the_path(folder: Path, **scripts: str) -> str:
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_slurm_without_a_cluster_is_told_at_once_with_the_way_out(tmp_path, monkeypatch, options):
    (tmp_path / "m.yaml").write_text(DIGITS)
    down = "echo 'Slurmctld(primary) at n0 is DOWN'"
    others = dict.fromkeys(("sbatch", "srun", "squeue", "scancel"), "exit 0")
    monkeypatch.setenv("PATH", _on_the_path(tmp_path, scontrol=down, **others))
    monkeypatch.setattr("bench.manifest.quick.reduce", lambda manifest: pytest.fail("operations were counted first"))
    monkeypatch.setattr("bench.plan.forecast.show", lambda *_: pytest.fail("operations were counted first"))
    command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--launcher", "slurm"]
    result = CliRunner().invoke(app, [*command, *options])
    words = "error: scontrol: Slurmctld(primary) at n0 is DOWN (allowed: --launcher local)\n"
    assert (result.exit_code, result.stderr) == (2, words)
    (tmp_path / "m.yaml").write_text(DIGITS.replace("Standard", "Standrad"))
    assert "cells[0].method" in CliRunner().invoke(app, command).stderr


def test_what_never_started_has_no_node(tmp_path, monkeypatch):
    lines = "7|CANCELLED by 0|None assigned|\n8_0|FAILED|n1|"
    monkeypatch.setenv("PATH", _on_the_path(tmp_path, sacct=f"cat <<END\n{lines}\nEND"))
    seen = states.ended(["7", "8_0"])
    assert (seen["7"].node, seen["8_0"].node) == ("", "n1")


def test_slurms_name_stands_once_before_its_last_words():
    said = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: no such place"
    assert states.last_words("sbatch", said) == "sbatch: Batch job submission failed: no such place"
    assert states.last_words("sacct", "Slurm accounting storage is disabled") == (
        "sacct: Slurm accounting storage is disabled"
    )
    assert states.last_words("sacct", "") == "sacct: nothing"


@pytest.mark.parametrize("value", ["64", "64.5G", "lots", "[64G]"])
def test_memory_without_a_unit_is_told_what_is_allowed(tmp_path, value):
    (tmp_path / "p.yaml").write_text(f"mem: {value}")
    with pytest.raises(ValueError, match=r"profile.mem: .* K, M, G or T \(64G\)"):
        profiles.read(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("mem: 64G")
    assert profiles.read(tmp_path / "p.yaml").mem == "64G"


def test_times_without_records_are_those_of_the_device_that_is_here(tmp_path, monkeypatch):
    (tmp_path / "m.yaml").write_text(DIGITS)
    other = "a GPU (not in bench/plan/devices.py; figures of a100): 3.9"
    for name, words in (("cpu", "cpu: 0.04"), ("NVIDIA H200", "NVIDIA H200: 13"), ("a GPU", other)):
        monkeypatch.setattr("bench.measure.gpu_telemetry.device_name", lambda name=name: name)
        command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--launcher", "local", "--dry-run"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert f"counted operations at the speed of {words} TFLOP/s" in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: {cifra10: /x}", r"profile\.sources\.cifra10: no dataset \(allowed: cifar10, cifar100, digits, "),
        ("time: 1", r"signal_delay_s: 90 \(allowed: below 60, the seconds of time\)"),
        ("{time: 10, signal_delay_s: 600}", r"signal_delay_s: 600 \(allowed: below 600"),
        ("gpus_per_rank: 4", r"profile\.gpus_per_rank: 4: "),
        ("stage: relative/x", r"profile\.stage: 'relative/x': an absolute path"),
        ("setup: module load cuda", r"profile\.setup: 'module load cuda': Input should be a list$"),
    ],
)
def test_a_profile_that_would_be_passed_over_in_silence_is_refused(tmp_path, text, words):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        profiles.read(tmp_path / "p.yaml")


@pytest.mark.parametrize("study", [False, True])
def test_what_needs_a_gpu_is_refused_with_file_and_cell_before_the_plan(tmp_path, monkeypatch, study):
    recipe = "recipe: {epochs: 1000, batch_size: 32, lr: 0.01, cuda_graph: true}"
    timing = "timing: {runs: 1, rounds: 1}\nbaseline: Standard\n" if study else ""
    text = DIGITS.replace("recipe: {epochs: 1000, batch_size: 32, lr: 0.01}", recipe).replace(", ranks: 2", "")
    (tmp_path / "m.yaml").write_text(text + timing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (cell,) = read_manifest(tmp_path / "m.yaml").cells
    cost.prepare([cost.step(cell)])  # so that no command below says that it counts
    words = f"{tmp_path / 'm.yaml'}: {cell.id}: recipe.cuda_graph: true needs a GPU (allowed here: false)\n"
    command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    for launcher in ("local", "inline"):
        done = CliRunner().invoke(app, [*command, "--launcher", launcher])
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {words}")
        done = CliRunner().invoke(app, [*command, "--launcher", launcher, "--dry-run"])
        assert done.exit_code == 0 and done.stderr == f"warning: {words}"
    # The nodes may well have what the machine that submits has not; and what is done asks for nothing.
    done = CliRunner().invoke(app, [*command, "--launcher", "slurm", "--dry-run"])
    assert done.exit_code == 0 and "GPU" not in done.stderr
    if not study:
        (tmp_path / "runs" / cell.id).mkdir(parents=True)
        (tmp_path / "runs" / cell.id / "model.pt").touch()
        done = CliRunner().invoke(app, [*command, "--launcher", "local"])
        assert done.exit_code == 0 and "Nothing left to do" in done.output


def test_cancel_without_slurm_says_how_what_runs_here_ends(tmp_path, monkeypatch):
    (tmp_path / "m.yaml").write_text(DIGITS)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(cancel.app, [str(tmp_path / "m.yaml")])
    assert done.exit_code == 2 and "no Slurm here" in done.stderr and "ctrl-C" in done.stderr


def test_one_job_is_no_jobs():
    assert [pluralize(number) for number in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


ALIKE = """
dataset: digits
arch: cnn2c2f
threat: {sigma: 0.25}
recipe: {epochs: 1, batch_size: 32, lr: 0.1}
cells:
  - {method: [{SmoothMix: {T: 5}}, {SmoothMix: {T: 6}}]}
  - {method: CRT, teacher: [{arch: cnn4c3f, method: Gaussian, recipe: {epochs: 1, batch_size: 32, lr: 0.1}}]}
"""
CALLED = ("SmoothMix(T=5)", "SmoothMix(T=6)", "from cnn4c3f Gaussian")


def test_cells_are_told_apart_by_more_than_a_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(screen, "WIDTH", 160)
    (tmp_path / "m.yaml").write_text(ALIKE)
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)]
    plan = [*where, "--launcher", "local", "--dry-run"]
    for done in (CliRunner().invoke(app, plan), CliRunner().invoke(status.app, where)):
        assert done.exit_code == 0 and all(words in done.output for words in CALLED), done.output
    wrong = CliRunner().invoke(app, [*plan, "--only", "nothing"])
    ids = [cell.id for cell in read_manifest(tmp_path / "m.yaml").cells]
    assert wrong.exit_code == 2 and f"{ids[0]} (SmoothMix(T=5)), {ids[1]} (SmoothMix(T=6)), {ids[2]} (" in wrong.stderr
    some = CliRunner().invoke(app, [*plan, "--only", "T=6"])
    assert some.exit_code == 0 and CALLED[1] in some.output and CALLED[0] not in some.output


def test_ids_are_not_folded_where_there_is_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "m.yaml").write_text(DIGITS.replace("cnn2c2f", "imagenet_regnetx_4gf"))
    command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--launcher", "local", "--dry-run"]
    result = CliRunner().invoke(app, command)
    (cell,) = read_manifest(tmp_path / "m.yaml").cells
    assert result.exit_code == 0 and f"train/{cell.id} " in result.output, result.output


def test_arrays_of_tables_of_one_name_are_told_apart(tmp_path, monkeypatch):
    names = [manifest_name(file) for file in sorted(MANIFESTS.rglob("*.yaml"))]
    assert {"table1", "rrm-table1", "duet-table1"} < set(names) and len(set(names)) == len(names)
    monkeypatch.chdir(MANIFESTS / "rrm")
    assert manifest_name(Path("table1.yaml")) == manifest_name(Path("../rrm/table1.yaml")) == "rrm-table1"
    assert manifest_name(tmp_path / "table1.yaml") == "table1"
    (array,) = slurm.arrays("rrm-table1", [wave(task(_note, tmp_path, "a"))], Profile(), 10, set())
    assert "#SBATCH --job-name=rrm-table1-wave\n" in slurm.text(array, tmp_path, Profile())
