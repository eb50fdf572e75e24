"""Rendezvous of a job's ranks: rank 0 opens a free port and writes it to a file that the other ranks read.

The launcher creates an empty file for each attempt and names it in the environment of every rank, so that no rank reads
the file of an earlier attempt. Rank 0 binds the port itself and keeps it, so that no other process can take it.
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
"""Time limit for rank 0 to start, and then for the others to join it."""
_EVERY = 0.05
"""Seconds between two looks at the file."""
_TRIES = 200
"""Number of ports to try."""
_LOWEST = 10000
"""Lowest port to try; the ports of common services are below it."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@contextmanager
def join_ranks() -> Iterator[None]:
    """Set torch's variables for this rank and, if there are several, the address and port of the rendezvous.

    CUDA_VISIBLE_DEVICES is left as Slurm or the user set it; a rank chooses its GPU by LOCAL_RANK.
    """
    job = JobEnvironment()
    forget_ranks()
    ranks = {"RANK": job.global_rank, "LOCAL_RANK": job.local_rank, "WORLD_SIZE": job.num_tasks}
    ranks["LOCAL_WORLD_SIZE"] = job.num_tasks // job.num_nodes
    os.environ.update({name: str(value) for name, value in ranks.items()})
    if job.num_tasks == 1:
        yield
    elif job.global_rank == 0:
        port, store = _serve(job.job_id, job.num_tasks, everywhere=job.num_nodes > 1)
        os.environ.update(MASTER_ADDR=_LOOPBACK, MASTER_PORT=str(port))
        yield
        del store  # the store is the server, so it is kept until here
    else:
        port_text, *hosts = _read(_file(job.job_id)).split()
        os.environ.update(MASTER_ADDR=next(filter(_resolves, hosts), hosts[0]), MASTER_PORT=port_text)
        yield


def _serve(job: str, ranks: int, everywhere: bool) -> tuple[int, TCPStore]:
    """Open a port and write it to the file; return the port and its store."""
    file = _file(job)
    listener = listen(_first(job), everywhere)
    port = listener.getsockname()[1]
    # The store that torch creates for this port shares this server, because both are multi-tenant.
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
    """Index of the first port to try: different for each job and, after a requeue, beyond all earlier tries."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    return zlib.crc32(job.encode()) + restarts * (_TRIES + 1)


def listen(first: int, everywhere: bool) -> socket.socket:
    """A socket listening on the first free port from `ports()[first]` on; with `everywhere`, to other nodes as well."""
    dual_stack = everywhere and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual_stack else socket.AF_INET
    host = "" if everywhere else _LOOPBACK
    allowed = ports()
    tries = [allowed[(first + k) % len(allowed)] for k in range(min(_TRIES, len(allowed)))]
    # Port 0 lets the kernel choose, if no other port is free.
    for port in [*tries, 0]:
        with suppress(OSError):
            return socket.create_server((host, port), family=family, dualstack_ipv6=dual_stack)
    raise OSError("no port is free on this machine")


def ports() -> list[int]:
    """Ports that the kernel never assigns to outgoing connections, so that only servers take them."""
    try:
        low, high = map(int, _EPHEMERAL.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        low, high = 32768, 65535  # the default range of Linux and that of the standard
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
    """The line that rank 0 writes, once it is complete; TimeoutError if it never is.

    The file is opened anew each time, which makes writes of other nodes visible over NFS.
    """
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while not (text := file.read_text(encoding="utf-8")).endswith("\n"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file}: rank 0 has written no port in {_PATIENCE.total_seconds():.0f} s")
        time.sleep(_EVERY)
    return text
