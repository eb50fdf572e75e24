"""The port where ranks meet: free, no outgoing connection's, another for each job and attempt, told through a file."""

import socket
import threading

import pytest

from launchers import rendezvous

DEFAULT = (32768, 60999)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("32768\t60999\n", DEFAULT),
        ("15000 64000", (15000, 64000)),
        ("10000 20000", (10000, 20000)),
        ("61000 65535", (61000, 65535)),
        ("garbage", (32768, 65535)),
        (None, (32768, 65535)),
    ],
)
def test_no_port_is_one_of_the_kernels(tmp_path, monkeypatch, text, taken):
    if text:
        (tmp_path / "range").write_text(text)
    monkeypatch.setattr(rendezvous, "_EPHEMERAL", tmp_path / "range")
    low, high = taken
    found = rendezvous.ports()
    assert found == [port for port in range(10000, 65536) if port < low or port > high]
    with rendezvous.listen(123456789, everywhere=False) as one:
        assert one.getsockname()[1] in found


def test_where_the_kernel_has_every_port_it_chooses_one(tmp_path, monkeypatch):
    (tmp_path / "range").write_text("1024 65535")
    monkeypatch.setattr(rendezvous, "_EPHEMERAL", tmp_path / "range")
    with rendezvous.listen(5, everywhere=False) as one:
        assert one.getsockname()[1] > 0


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("family", "host", "listens"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "", True),
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "", False),
        (socket.AF_INET6, "::", True),
    ],
)
def test_a_taken_port_is_passed_over(everywhere, family, host, listens):
    first = 987654321
    with rendezvous.listen(first, everywhere) as free:
        port = free.getsockname()[1]
    with socket.socket(family) as other:
        try:
            other.bind((host, port))
        except OSError:
            pytest.skip("this machine has no IPv6")
        if listens:
            other.listen()
        with rendezvous.listen(first, everywhere) as mine:
            assert mine.getsockname()[1] not in (0, port)


def test_jobs_that_begin_at_one_port_at_once_get_different_ones():
    held = [rendezvous.listen(42, everywhere=k % 2 == 0) for k in range(20)]
    assert len({one.getsockname()[1] for one in held}) == 20
    for one in held:
        one.close()


@pytest.mark.parametrize("job", ["1", "17", "17_3", "4000000000", "99_1000"])
def test_no_attempt_tries_the_ports_of_an_earlier_one(monkeypatch, job):
    allowed, tried = rendezvous.ports(), []
    for restarts in ("", "0", "1", "2", "3"):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        first = rendezvous._first(job)
        tried.append({allowed[(first + k) % len(allowed)] for k in range(rendezvous._TRIES)})
    assert tried[0] == tried[1]
    assert len(set.union(*tried[1:])) == 4 * rendezvous._TRIES


def test_another_rank_waits_for_the_whole_line(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "_EVERY", 0.001)
    file = tmp_path / "file"
    file.write_text("")
    parts = iter(["12", "345 nobody.invalid", " 127.0.0.1", "\n"])

    def write() -> None:
        with open(file, "a", buffering=1) as told:
            for part in parts:
                told.write(part)
                told.flush()
                threading.Event().wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    port, *hosts = rendezvous._read(file).split()
    thread.join()
    assert (port, next(filter(rendezvous._resolves, hosts))) == ("12345", "127.0.0.1")


def test_a_rank_0_that_never_starts_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "_PATIENCE", rendezvous.timedelta(seconds=0))
    (tmp_path / "file").write_text("")
    with pytest.raises(TimeoutError, match="rank 0 has written no port"):
        rendezvous._read(tmp_path / "file")


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({"SLURMD_NODENAME": "n1", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}, ["n1", "10.0.0.1"]),
        ({"SLURMD_NODENAME": "n1"}, ["n1"]),
        ({"SLURM_LAUNCH_NODE_IPADDR": "fd00::1"}, ["fd00::1"]),
        ({"SLURMD_NODENAME": "", "SLURM_LAUNCH_NODE_IPADDR": ""}, [socket.gethostname()]),
        ({}, [socket.gethostname()]),
    ],
)
def test_a_node_is_told_by_names_that_slurm_uses_itself(monkeypatch, environment, hosts):
    for name in ("SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rendezvous._hosts() == hosts


def test_a_job_of_an_earlier_version_says_so(monkeypatch):
    monkeypatch.delenv("BENCH_RENDEZVOUS", raising=False)
    with pytest.raises(ValueError, match="allowed: submit it again"):
        rendezvous._file("17")
