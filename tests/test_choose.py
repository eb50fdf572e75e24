"""`auto`: Slurm where a cluster answers; else this machine, with a remark where Slurm's commands are there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import until

from bench import submit
from launchers import choose, states

MANIFEST = """
dataset: digits
loader: device
arch: cnn2c2f
images: 128
recipe: {epochs: 1, batch_size: 32, lr: 0.01}
cells: [{method: Standard}]
"""
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
VERSION = "echo slurm 24.11.1"
UP = "echo 'Slurmctld(primary) at n0 is UP'"
# As Slurm 22.05 prints them.
NO_CONFIG = "echo 'sbatch: error: DNS SRV lookup failed' >&2; echo 'sbatch: fatal: No source' >&2; exit 1"
DOWN = """echo 'Slurmctld(primary) at n0 is DOWN'
echo '*****************************************'
echo '** RESTORE SLURMCTLD DAEMON TO SERVICE **'
echo '*****************************************'
exit 1"""
NO_MUNGE = "echo 'scontrol: error: REQUEST_PING has authentication error' >&2; exit 1"
# A wrapper, and what it started.
HANGS = "/bin/sleep 6000 & echo $! > {pid}; wait"
ABSENT = {
    "no configuration": ({"sbatch": NO_CONFIG, "scontrol": NO_CONFIG}, "sbatch: No source"),
    "controller down": ({"scontrol": DOWN}, "scontrol: Slurmctld(primary) at n0 is DOWN"),
    "munge down": ({"scontrol": NO_MUNGE}, "scontrol: REQUEST_PING has authentication error"),
    "controller hangs": ({"scontrol": HANGS}, "scontrol: Slurm has not answered in 0.5 s"),
    "sbatch hangs": ({"sbatch": HANGS}, "sbatch: Slurm has not answered in 0.5 s"),
    "sbatch fails": ({"sbatch": "exit 3"}, "sbatch: nothing"),
    "sbatch is no program": ({"sbatch": None}, "sbatch: Exec format error"),
    "scontrol is not there": ({"scontrol": ""}, "scontrol: not found, so there is no Slurm here"),
    "srun is not there": ({"srun": ""}, "srun: not found, so there is no Slurm here"),
    "scontrol says nothing": ({"scontrol": "exit 0"}, "scontrol: no controller"),
    "scontrol says what is no text": ({"scontrol": r"printf '\377\n' >&2; exit 1"}, "scontrol: \ufffd"),
}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Put scripts in the place of Slurm's commands, and nothing else on the PATH: None is an empty file, "" none."""

    def install(**changed: str | None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        answers = dict.fromkeys(COMMANDS, "exit 0") | {"sbatch": VERSION, "scontrol": UP} | changed
        for name, script in answers.items():
            if script != "":
                pid = tmp_path / "pid"
                (folder / name).write_text(f"#!/bin/sh\n{script.format(pid=pid)}\n" if script else "")
                (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(choose, "_SECONDS", 0.5)
        return tmp_path / "pid"

    return install


def alive(pid: Path) -> bool:
    try:
        return Path("/proc", pid.read_text().strip(), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("scripts", "words"), ABSENT.values(), ids=ABSENT)
def test_where_no_cluster_answers_jobs_run_here_and_a_line_says_why(commands, capfd, scripts, words):
    pid = commands(**scripts)
    assert choose.choose(profile=False) == "local"
    assert capfd.readouterr() == ("", f"note: no cluster answers ({words}); jobs run on this machine\n")
    # The kernel ends a killed process only when it next runs.
    until(lambda: not alive(pid))


def test_a_cluster_that_answers_is_used_and_nothing_is_said(commands, capfd):
    commands()
    assert choose.choose(profile=False) == "slurm"
    assert capfd.readouterr() == ("", "")


def test_without_sbatch_jobs_run_here_and_nothing_is_said(commands, capfd):
    commands(sbatch="")
    assert choose.choose(profile=False) == "local"
    assert capfd.readouterr() == ("", "")


def test_a_profile_asks_for_slurm(commands, capfd):
    commands(sbatch="")
    assert choose.choose(profile=True) == "slurm"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_submit_without_a_cluster_runs_here(commands, tmp_path, digits, monkeypatch, dry):
    (tmp_path / "m.yaml").write_text(MANIFEST)
    commands(scontrol=DOWN)
    handed = []
    monkeypatch.setattr("launchers.local.launch", lambda waves, logs: handed.append(waves) or 0)
    options = ["--runs", tmp_path / "runs", "--data", digits, *dry]
    done = CliRunner().invoke(submit.app, [str(tmp_path / "m.yaml"), *map(str, options)])
    assert done.exit_code == 0 and bool(handed) != bool(dry)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    words = "scontrol: Slurmctld(primary) at n0 is DOWN"
    assert line == f"note: no cluster answers ({words}); jobs run on this machine"


@pytest.mark.parametrize("profile", [False, True])
def test_slurm_that_is_asked_for_and_does_not_answer_is_an_error(commands, tmp_path, profile):
    (tmp_path / "m.yaml").write_text(MANIFEST)
    (tmp_path / "p.yaml").write_text("time: 60")
    commands(scontrol=DOWN)
    options = ["--profile", tmp_path / "p.yaml"] if profile else ["--launcher", "slurm"]
    done = CliRunner().invoke(submit.app, [str(tmp_path / "m.yaml"), *map(str, options)])
    way = "--launcher local, without --profile" if profile else "--launcher local"
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: scontrol: Slurmctld(primary) at n0 is DOWN (allowed: {way})\n",
    )


def test_commands_are_asked_without_the_variables_that_steer_them(commands, monkeypatch):
    commands(squeue="/usr/bin/env")
    steering = ("SQUEUE_PARTITION", "SQUEUE_STATES", "SLURM_CLUSTERS", "SLURM_JOB_ID", "SLURM_TIME_FORMAT")
    for name in (*steering, "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    said = {line.split("=", 1)[0] for line in states.ask("squeue").splitlines()}
    assert "SLURM_CONF" in said and not said & set(steering)
