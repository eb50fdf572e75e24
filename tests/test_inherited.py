"""No job inherits variables of the place where it is submitted, under each launcher and when it starts."""

import os
from pathlib import Path

import pytest
import torch
from calls import CallTask, wave

from bench.command import report_errors
from crt import distributed
from launchers import inline, local, slurm
from launchers.environment import clean
from launchers.profile import Profile
from launchers.states import job_id

ALLOCATION = {
    **{"SLURM_JOB_ID": "17", "SLURM_JOBID": "17", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "8", "SLURM_NODEID": "3"},
    **{"SLURM_PROCID": "5", "SLURM_LOCALID": "5", "SLURM_CPU_BIND": "map_cpu:0", "SLURM_CPUS_PER_TASK": "1"},
    **{
        "SLURM_TRES_PER_TASK": "cpu=1",
        "SLURM_MEM_PER_CPU": "10",
        "SLURM_ARRAY_JOB_ID": "9",
        "SLURM_EXPORT_ENV": "NONE",
    },
    **{
        "SLURM_ARRAY_TASK_ID": "4",
        "SLURM_HINT": "nomultithread",
        "SLURM_DISTRIBUTION": "cyclic",
        "SLURM_CLUSTERS": "b",
    },
    **{"SLURM_RESTART_COUNT": "2", "SLURMD_NODENAME": "elsewhere", "_SLURM_SPANK_OPTION_x": "y"},
}
OPTIONS = {
    **{"SBATCH_PARTITION": "nowhere", "SBATCH_TIMELIMIT": "1", "SBATCH_EXPORT": "NONE", "SBATCH_NO_REQUEUE": "1"},
    **{"SBATCH_ARRAY_INX": "0-9", "SRUN_CPUS_PER_TASK": "1", "SRUN_EXPORT_ENV": "NONE", "SALLOC_ACCOUNT": "x"},
    **{"SQUEUE_PARTITION": "nowhere", "SACCT_FORMAT": "x", "SCANCEL_INTERACTIVE": "1"},
}
TORCHRUN = {
    **{"MASTER_ADDR": "elsewhere", "MASTER_PORT": "1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"},
    **{"LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "ROLE_RANK": "3", "NODE_RANK": "1", "TORCHELASTIC_RUN_ID": "x"},
    **{"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1"},
}
MPIRUN = {
    **{"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "3", "PMI_FD": "9", "PMIX_RANK": "3"},
    **{"PALS_RANKID": "3", "MPI_LOCALRANKID": "3"},
}
SUBMITIT = {
    **{"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_PREEMPT_SIGNAL": "USR1", "SUBMITIT_FOLDER": "/nowhere"},
    **{"SUBMITIT_LOCAL_GLOBALID": "3", "SUBMITIT_LOCAL_NTASKS": "4"},
}
FUNCTIONS = {f"BASH_FUNC_{name}%%": "() { false; }" for name in ("srun", "sbatch", "salloc", "scontrol", "squeue")}
PLACES = {
    **{"allocation": ALLOCATION, "options": OPTIONS, "torchrun": TORCHRUN, "mpirun": MPIRUN},
    **{"submitit": SUBMITIT, "functions": FUNCTIONS},
}
KEPT = {
    **{"SLURM_CONF": "/conf", "SLURM_JWT": "token", "CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "1"},
    **{"NCCL_SOCKET_IFNAME": "ib0", "GLOO_SOCKET_IFNAME": "lo", "BASH_FUNC_module%%": "() { :; }", "RANKS": "x"},
}
ALL = {name: value for place in PLACES.values() for name, value in place.items()}


def _note(path: Path, *names: str) -> None:
    with open(path, "a") as file:
        file.write(f"{job_id()} {sorted(set(names) & set(os.environ))}\n")


def _sum(path: Path, *names: str) -> None:
    with distributed.process_group():
        total = torch.tensor(float(distributed.rank()))
        torch.distributed.all_reduce(total)
    _note(path.with_suffix(f".{distributed.rank()}"), *names)
    path.with_suffix(f".sum{distributed.rank()}").write_text(f"{total.item():g} of {distributed.world_size()}")


def task(function, path: Path, *names: str, ranks: int = 1) -> CallTask:
    return CallTask(name="a", ranks=ranks, function=function, args=(path, *names))


@pytest.mark.parametrize("place", PLACES)
def test_the_variables_of_a_place_are_taken_away_and_no_others(place):
    assert clean(PLACES[place] | KEPT) == KEPT


@pytest.mark.parametrize("place", PLACES)
def test_a_command_is_one_process_whatever_started_it(monkeypatch, place):
    for name, value in (PLACES[place] | KEPT).items():
        monkeypatch.setenv(name, value)
    with report_errors():
        assert (distributed.rank(), distributed.world_size(), job_id()) == (0, 1, None)
        assert not set(PLACES[place]) & set(os.environ) and set(KEPT) <= set(os.environ)
    assert set(PLACES[place]) <= set(os.environ)


@pytest.mark.parametrize("place", PLACES)
def test_inline_is_one_rank_and_no_slurm_job_whatever_started_it(tmp_path, monkeypatch, place):
    for name, value in PLACES[place].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    inline.launch([wave(task(_alone, tmp_path / "out", *PLACES[place]))])
    assert (tmp_path / "out").read_text() == "None []\n"
    assert dict(os.environ) == before


def _alone(path: Path, *names: str) -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    _note(path, *names)


def test_local_ranks_meet_and_are_no_slurm_job_whatever_started_them(tmp_path, monkeypatch):
    for name, value in (ALL | KEPT).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    ours = {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}
    ours |= {name for name in SUBMITIT if name != "SUBMITIT_PREEMPT_SIGNAL"}
    names = (set(ALL) - ours) | {"CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME"}
    assert local.launch([wave(task(_sum, tmp_path / "out", *names, ranks=2))], tmp_path / "logs") == 0
    for rank in (0, 1):
        assert (tmp_path / f"out.{rank}").read_text() == "None ['CUDA_VISIBLE_DEVICES', 'GLOO_SOCKET_IFNAME']\n"
        assert (tmp_path / f"out.sum{rank}").read_text() == "1 of 2"
    assert not list((tmp_path / "logs").glob("rendezvous*"))


@pytest.mark.parametrize("place", ["torchrun", "mpirun"])
def test_a_rank_under_slurm_is_what_slurm_says(tmp_path, monkeypatch, place):
    step = {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    for name, value in (PLACES[place] | step | {"SUBMITIT_EXECUTOR": "slurm"}).items():
        monkeypatch.setenv(name, value)
    task(_rank, tmp_path / "out")()
    assert (tmp_path / "out").read_text() == "17 0 of 1"


def _rank(path: Path) -> None:
    path.write_text(f"{job_id()} {distributed.rank()} of {distributed.world_size()}")


@pytest.mark.parametrize("place", PLACES)
def test_sbatch_is_run_without_them(tmp_path, monkeypatch, place):
    for name in ("sbatch", "srun"):
        # Not sh, which may drop bash's functions.
        (tmp_path / name).write_text(f"#!/bin/bash\n/usr/bin/env > '{tmp_path}/seen'\necho Submitted batch job 7\n")
        (tmp_path / name).chmod(0o755)
    for name, value in (PLACES[place] | KEPT).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (array,) = slurm.arrays("t", [wave(task(_note, tmp_path / "out"))], Profile(), 9, set())
    assert slurm._submit(array, tmp_path / "logs", Profile(), "tag", []) == "7"
    seen = {line.split("=", 1)[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert not seen & set(PLACES[place]) and set(KEPT) <= seen
    assert "#SBATCH --signal=USR2@90\n" in (tmp_path / "logs" / "7_submission.sh").read_text()
