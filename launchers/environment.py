"""Environment variables that must not pass from this process to the jobs it starts.

A submit may itself run inside an allocation, under `torchrun` or under `mpirun`. Slurm's commands read options from the
environment, which take precedence over those of a script, and torch and submitit read ranks from it.
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
"""Variables that select the cluster and the credentials. Every command keeps them."""
_RANKS = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"),
}
# Shell functions exported by bash: one with such a name would replace Slurm's command in the batch script.
_FUNCTIONS = {f"BASH_FUNC_{command}%%" for command in _COMMANDS}


def _sets_ranks(name: str) -> bool:
    return name in _RANKS or name.startswith("TORCHELASTIC_")


def _describes_place(name: str) -> bool:
    slurm = name.startswith(_PREFIXES) and name not in _CLUSTER
    return slurm or _sets_ranks(name) or name in _FUNCTIONS


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command or job, without variables that describe where this process runs."""
    return {name: value for name, value in environment.items() if not _describes_place(name)}


@contextmanager
def cleaned(**more: str) -> Iterator[None]:
    """Within this context, remove variables that describe where this process runs, and set `more`."""
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
    """Remove torch's variables from this process's environment; a job sets its own."""
    for name in filter(_sets_ranks, list(os.environ)):
        del os.environ[name]


ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31)}
"""Fixed thresholds of glibc's allocator.

By default they adapt to the process's history, and large tensors cause page faults at each use in some processes and
not in others.
"""


RENDEZVOUS = "BENCH_RENDEZVOUS"
"""Variable with the path of the file through which the ranks of one attempt find each other.

The file lies on storage that the nodes share.
"""
