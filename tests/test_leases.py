"""Leases of records: one writer at a time, whatever happens to processes, hosts and the files of claims."""

import json
import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from lease_processes import compete, hold
from waiting import until

from bench.jobs import record_lease
from bench.jobs.claim import Claim, look, new_claim
from bench.jobs.record_lease import RecordLease, SupersededError
from bench.records import End, read

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["lease_processes"])
LONG_AGO = (1e9, 1e9)
SOON = 0.06
"""Expiry in seconds where a claim that nobody renews is watched."""


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "cell" / "train.jsonl"


def claim_file(file: Path) -> Path:
    return file.with_suffix(".claim")


def guard_file(file: Path) -> Path:
    return file.with_suffix(".claim.guard")


def put(path: Path, content: bytes | Claim | dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Claim):
        content = content.model_dump_json().encode()
    path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
    return path


@contextmanager
def holder(file: Path):
    """A process that takes the lease, with the queues of its orders and answers."""
    orders, answers = PROCESSES.Queue(), PROCESSES.Queue()
    process = PROCESSES.Process(target=hold, args=(file, orders, answers), daemon=True)
    process.start()
    try:
        yield process, orders, answers
    finally:
        process.kill()
        process.join()


def ended_pid() -> int:
    process = PROCESSES.Process(target=int)
    process.start()
    process.join()
    return process.pid


def elsewhere(**changes) -> Claim:
    """A claim of a process that this host knows nothing of."""
    values = {"host": "node7", "boot": "another boot", "namespace": "pid:[1]", "job": None, "cluster": None}
    return new_claim().model_copy(update=values | changes)


def works(lease: RecordLease) -> bool:
    lease.append(End(time=1.0))
    lease.release()
    return not claim_file(lease.file).exists() and not guard_file(lease.file).exists()


def test_a_process_at_work_keeps_others_out_until_it_ends(file):
    with holder(file) as (process, orders, answers):
        assert answers.get() == "holds"
        with pytest.raises(ValueError, match=rf"process {process.pid} on .* is at work on it \(wait until") as caught:
            RecordLease(file)
        assert str(file) in str(caught.value) and "end it" not in str(caught.value)
        orders.put(1.0)
        assert answers.get() == "written"
        orders.put("end")
        process.join()
    assert not claim_file(file).exists() and works(RecordLease(file))


def test_the_claim_of_a_killed_process_does_not_block(file):
    with holder(file) as (process, _, answers):
        assert answers.get() == "holds"
        process.kill()
        process.join()
        assert claim_file(file).exists() and works(RecordLease(file))


def test_a_stopped_process_loses_its_lease_and_writes_nothing_more(file):
    with holder(file) as (process, orders, answers):
        assert answers.get() == "holds"
        os.kill(process.pid, signal.SIGSTOP)
        os.utime(claim_file(file), LONG_AGO)
        lease = RecordLease(file, SOON)
        lease.append(End(time=2.0))
        orders.put(3.0)
        os.kill(process.pid, signal.SIGCONT)
        assert answers.get() == "superseded"
        assert [record.time for record in read(file)] == [2.0]
        lease.append(End(time=4.0))


@pytest.mark.parametrize(
    "changes",
    [{"started": 1}, {"pid": 2**22 + 1}, {"pid": -1}, {"pid": 0}, {"started": None}, {"pid": 10**30}],
    ids=["reused pid", "no such pid", "negative pid", "pid 0", "no start", "huge pid"],
)
def test_a_process_that_this_host_knows_to_have_ended_does_not_block(file, changes):
    put(claim_file(file), new_claim().model_copy(update={"pid": os.getppid(), "started": 1} | changes))
    assert works(RecordLease(file))


UNKNOWN = {
    "rebooted": elsewhere(host=new_claim().host),
    "another host": elsewhere(),
    "container with pid 1": elsewhere(boot=new_claim().boot, pid=1),
    "no Linux": elsewhere(boot=None, namespace=None, started=None),
    "another cluster": elsewhere(job="7", cluster="c1"),
}


@pytest.mark.parametrize("claim", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("changed", [None, LONG_AGO, (4e9, 4e9)], ids=["now", "long ago", "in the future"])
def test_a_claim_that_nobody_renews_expires(file, claim, changed, capsys):
    os.utime(put(claim_file(file), claim), changed)
    assert works(RecordLease(file, SOON))
    assert str(claim_file(file)) in capsys.readouterr().out


@pytest.mark.parametrize("claim", UNKNOWN.values(), ids=UNKNOWN)
def test_a_claim_that_is_renewed_blocks_wherever_its_process_is(file, claim, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "c2")
    path, done = put(claim_file(file), claim), threading.Event()

    def renew():
        while not done.wait(0.001):
            os.utime(path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(ValueError, match=f"process {claim.pid} on {claim.host} is at work on it"):
            RecordLease(file)
    finally:
        done.set()
        thread.join()
    assert look(path).claim == claim


def test_a_lease_is_renewed_while_it_is_held(file):
    with RecordLease(file, SOON):
        os.utime(claim_file(file), LONG_AGO)
        until(lambda: claim_file(file).stat().st_mtime > LONG_AGO[0])


def test_a_later_attempt_of_the_same_slurm_job_takes_over_at_once(file, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    put(claim_file(file), elsewhere(job="7"))
    assert works(RecordLease(file))


UNREADABLE = {
    "a number": b"5",
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe\x00\x80",
    "empty": b"",
    "other keys": b"{}",
    "other types": b'{"host": 1, "pid": "2", "job": [], "time": null}',
    "cut off": new_claim().model_dump_json().encode()[:40],
    "long": b"x" * 1_000_000,
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("place", [claim_file, guard_file])
def test_a_claim_that_cannot_be_read_is_named_and_taken_over(file, content, place, capsys):
    put(place(file), content)
    assert works(RecordLease(file, SOON))
    if place is claim_file:
        assert f"{claim_file(file)}: no claim that can be read" in capsys.readouterr().out


@pytest.mark.parametrize("place", [claim_file, guard_file])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_does_not_block(file, place, make):
    file.parent.mkdir()
    make(place(file))
    assert works(RecordLease(file, SOON))


def test_a_claim_that_was_removed_or_changed_ends_the_attempt(file):
    for change in (Path.unlink, lambda path: path.write_bytes(b"5")):
        lease = RecordLease(file, SOON)
        change(claim_file(file))
        with pytest.raises(ValueError, match=r"train\.claim: no longer the claim of this attempt"):
            lease.append(End(time=1.0))
        lease.release()
    assert not file.exists()


@pytest.mark.parametrize("wrote", ["before it ended", "long ago", "never"])
def test_a_guard_that_a_process_left_behind_is_removed(file, wrote):
    left = {"before it ended": new_claim().model_copy(update={"pid": ended_pid()}), "long ago": elsewhere()}
    put(guard_file(file), left.get(wrote, b""))
    put(claim_file(file), left.get(wrote, elsewhere()))
    assert works(RecordLease(file, SOON))


def test_a_holder_s_write_is_waited_for(file):
    first = RecordLease(file)
    taken = threading.Event()

    def take():
        RecordLease(file).append(End(time=2.0))
        taken.set()

    with first.held():
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        until(lambda: look(guard_file(file)).exists)
        assert not taken.wait(0.05)
        record_lease.append(file, End(time=1.0))
    taken.wait()
    assert [record.time for record in read(file)] == [1.0, 2.0]
    with pytest.raises(SupersededError):
        first.append(End(time=3.0))


@pytest.mark.parametrize("left", ["nothing", "dead", "expired", "unreadable"])
def test_of_several_takers_one_wins(file, left):
    claims = {"dead": new_claim().model_copy(update={"started": 1}), "expired": elsewhere(), "unreadable": b"5"}
    if left in claims:
        os.utime(put(claim_file(file), claims[left]), LONG_AGO)
    count = 4
    start, answers, end = PROCESSES.Barrier(count), PROCESSES.Queue(), PROCESSES.Event()
    takers = [PROCESSES.Process(target=compete, args=(file, start, answers, end), daemon=True) for _ in range(count)]
    for taker in takers:
        taker.start()
    outcomes = [answers.get() for _ in takers]
    end.set()
    for taker in takers:
        taker.join()
    assert sorted(outcomes, key=str) == [None, *[True] * (count - 1)]
    assert len(read(file)) == 1


def former(**changes) -> dict:
    """A claim as the former version wrote it."""
    return {"host": new_claim().host, "pid": os.getppid(), "job": None, "time": time.time()} | changes


def test_a_live_claim_of_the_former_version_blocks(file):
    os.utime(put(claim_file(file), former()), LONG_AGO)
    with pytest.raises(ValueError, match=rf"process {os.getppid()} .* is at work on it \(wait until it ends\)"):
        RecordLease(file, SOON)


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 2**22 + 1},
        {"time": 1e9},
        {"host": "node7"},
        {"host": "node7", "pid": 1},
        {"pid": os.getpid()},
        {"pid": 1, "time": 1e9},
    ],
    ids=["dead", "pid reused since", "other host", "container", "own", "rebooted"],
)
def test_a_dead_claim_of_the_former_version_does_not_block(file, changes):
    put(claim_file(file), former(**changes))
    assert works(RecordLease(file, SOON))
