"""Rendezvous of a job's ranks: rank 0 opens a free port and tells it to the others through a file.

The launcher makes an empty file for each attempt and names it in the environment of every rank, so that what an earlier
attempt left is never read. Rank 0 binds the port itself and keeps it, so that nobody takes it in between.
"""

import os
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from submitit import JobEnvironment
from torch.distributed import TCPStore

from launchers.environment import RENDEZVOUS, forget_ranks

_LOOPBACK = "127.0.0.1"
_PATIENCE = timedelta(minutes=10)
"""Time that rank 0 gets to start, and then the others to join it."""
_EVERY = 0.05
_TRIES = 200
_LOWEST = 10000
"""Services have their ports below this."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@contextmanager
def join_ranks() -> Iterator[None]:
    """Set torch's variables of this rank, and where there are others of the port where all meet, for the duration.

    CUDA_VISIBLE_DEVICES stays as Slurm or the user set it: a rank chooses its GPU by LOCAL_RANK.
    """
    here = JobEnvironment()
    forget_ranks()
    ranks = {"RANK": here.global_rank, "LOCAL_RANK": here.local_rank, "WORLD_SIZE": here.num_tasks}
    ranks["LOCAL_WORLD_SIZE"] = here.num_tasks // here.num_nodes
    os.environ.update({name: str(value) for name, value in ranks.items()})
    if here.num_tasks == 1:
        yield
    elif here.global_rank == 0:
        port, store = _serve(here.job_id, here.num_tasks, everywhere=here.num_nodes > 1)
        os.environ.update(MASTER_ADDR=_LOOPBACK, MASTER_PORT=str(port))
        yield
        del store  # held until here, for it is the server
    else:
        told, *hosts = _read(_file(here.job_id)).split()
        os.environ.update(MASTER_ADDR=next(filter(_resolves, hosts), hosts[0]), MASTER_PORT=told)
        yield


def _serve(job: str, ranks: int, everywhere: bool) -> tuple[int, TCPStore]:
    """Open the port, then tell it."""
    file = _file(job)
    listener = listen(_first(job), everywhere)
    port = listener.getsockname()[1]
    # The store that torch makes for this port uses the server that is there: both are multi-tenant.
    store = TCPStore(
        *(_LOOPBACK, port, ranks, True, _PATIENCE),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listener.detach(),
    )
    file.write_text(f"{port} {' '.join(_hosts() if everywhere else [_LOOPBACK])}\n", encoding="utf-8")
    return port, store


def _file(job: str) -> Path:
    if not os.environ.get(RENDEZVOUS):
        raise ValueError(f"{RENDEZVOUS} is not set: job {job} is of an earlier version (allowed: submit it again)")
    return Path(os.environ[RENDEZVOUS])


def _first(job: str) -> int:
    """Start of the search for a port: another for each job, and beyond all earlier tries after a requeue."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    return zlib.crc32(job.encode()) + restarts * (_TRIES + 1)


def listen(first: int, everywhere: bool) -> socket.socket:
    """A listening socket on the first free port from `ports()[first]` on, for other nodes too or for this one alone."""
    both = everywhere and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    host = "" if everywhere else _LOOPBACK
    allowed = ports()
    tries = [allowed[(first + k) % len(allowed)] for k in range(min(_TRIES, len(allowed)))]
    # Port 0 is the kernel's choice, for a machine that leaves no other.
    for port in [*tries, 0]:
        with suppress(OSError):
            return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    raise OSError("no port is free on this machine")


def ports() -> list[int]:
    """Ports that the kernel gives to no outgoing connection, so that they are taken by servers alone."""
    try:
        low, high = map(int, _EPHEMERAL.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        low, high = 32768, 65535  # Linux's and the standard's ranges together
    return [port for port in range(_LOWEST, 2**16) if not low <= port <= high]


def _hosts() -> list[str]:
    """Names of this node for others: the one in Slurm, and the address at which they reach srun, which runs here."""
    names = (os.environ.get(name) for name in ("SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR"))
    return [name for name in names if name] or [socket.gethostname()]


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _read(file: Path) -> str:
    """The line of rank 0, once it is whole. To open a file anew is to see what another node wrote, over NFS too."""
    until = time.monotonic() + _PATIENCE.total_seconds()
    while not (text := file.read_text(encoding="utf-8")).endswith("\n"):
        if time.monotonic() > until:
            raise TimeoutError(f"{file}: rank 0 has told no port in {_PATIENCE.total_seconds():.0f} s")
        time.sleep(_EVERY)
    return text
