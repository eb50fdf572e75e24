"""Environment variables that describe the place where a process was started, and must not reach the jobs it starts.

A submit may itself run inside an allocation, under `torchrun` or under `mpirun`. Slurm's commands read options from the
environment, where they outrank a script's own, and torch and submitit read ranks from it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_COMMANDS = ("sbatch", "srun", "salloc", "squeue", "sacct", "scancel", "scontrol")
_PREFIXES = (
    *("SLURM_", "_SLURM_", "SLURMD_", *(f"{command.upper()}_" for command in _COMMANDS)),
    *("SUBMITIT_", "OMPI_", "PMI_", "PMIX_", "PALS_", "MPI_LOCAL"),
)
_CLUSTER = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
"""Which cluster is asked, and by whom: these are meant for every command, wherever it runs."""
_RANKS = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"),
}
# Shell functions that bash exports: one of these names would replace Slurm's command in the batch script.
_FUNCTIONS = {f"BASH_FUNC_{command}%%" for command in _COMMANDS}


def _is_of_ranks(name: str) -> bool:
    return name in _RANKS or name.startswith("TORCHELASTIC_")


def _is_of_the_place(name: str) -> bool:
    slurm = name.startswith(_PREFIXES) and name not in _CLUSTER
    return slurm or _is_of_ranks(name) or name in _FUNCTIONS


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command or job: without what describes the place of this process."""
    return {name: value for name, value in environment.items() if not _is_of_the_place(name)}


@contextmanager
def cleaned(**more: str) -> Iterator[None]:
    """Take the variables of the place out of this process's environment, and set `more`, for the duration."""
    removed = set(os.environ) - set(clean(os.environ))
    before = {name: os.environ.get(name) for name in removed | set(more)}
    for name in removed:
        del os.environ[name]
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def forget_ranks() -> None:
    """Take torch's variables out of this process's environment: a job sets its own."""
    for name in filter(_is_of_ranks, list(os.environ)):
        del os.environ[name]


ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31)}
"""glibc's defaults fault large tensors in again at each use, or not, by the process's history: fixed for every rank."""


RENDEZVOUS = "BENCH_RENDEZVOUS"
"""Names the file, on storage that its nodes share, by which the ranks of one attempt at a task find each other."""
