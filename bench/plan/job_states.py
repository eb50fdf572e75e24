"""States of a manifest's jobs, from Slurm and from the records."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.text import Text

from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.jobs.tasks import DataTask, EvaluateTask
from bench.manifest.manifest import Manifest
from bench.measure.durations import duration
from bench.plan.waves import BenchJob, BenchWave, pluralize, waves
from bench.records import Epoch, Fail, Record, Replaced, Start, Verdict, read
from launchers.ledger import Ledger, Submitted
from launchers.states import Seen, check, ended, lately_ended, queued, site

_SKEW = 300.0
"""Seconds by which a node's clock may be ahead."""
_LINES = 3
"""Log lines to show of a job."""
WORDS = ("finished", "running", "waiting", "held", "failed", "begun", "submitted", "not submitted")
"""States of a job: `begun` means that there are records but no Slurm to ask, `submitted` that there are none yet."""


@dataclass(frozen=True, kw_only=True)
class State:
    """State of a job."""

    job: BenchJob
    word: str
    """One of WORDS."""
    reason: str = ""
    node: str = ""
    id: str = ""
    left: float | None = None
    """Expected seconds for the rest, from the records."""
    log_tail: tuple[str, ...] = ()
    """Last lines of the job's log."""
    replaced: tuple[str, ...] = ()
    """Damaged files that its attempts found, each with what they used or did instead."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Slurm's answer on the user's jobs; without a `cluster`, there was none."""

    cluster: str | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)
    note: str = "known from the records"


def ask_slurm() -> Queue:
    """The queue of the cluster that answers; ValueError if none does."""
    check()
    cluster = site().name
    return Queue(cluster=cluster, seen=queued(), note=f"known from squeue on {cluster}")


def states(
    manifest: Manifest,
    runs: Path,
    data: Path,
    planned: Sequence[BenchWave] | None = None,
    queue: Queue | None = None,
) -> tuple[list[State], str]:
    """State of every job, and a note on its source: squeue for queued jobs, sacct for ended ones, else records.

    Without `planned`, the jobs are those of the manifest, split as they were submitted. Without `queue`, Slurm is asked
    if the runs folder has ever submitted to it.
    """
    ledger = Ledger(runs)
    queue = queue or _queue(ledger)
    submitted = ledger.submitted(queue.cluster, queue.seen)
    if planned is None:
        place = JobPaths(runs=runs, data=data, process="fresh")
        planned = waves(manifest, place, EvaluateTask.shards_of(submitted), DataTask.sources_of(submitted, data))
    jobs = [job for wave in planned for job in wave.jobs]
    unfinished = [submitted[job.task.key] for job in jobs if job.task.key in submitted and not job.progress.finished]
    dequeued = [each for each in unfinished if not each.find(queue.seen)]
    accounts, note = _accounts(dequeued) if dequeued and queue.cluster else ({}, "")
    return [_state(job, submitted.get(job.task.key), queue, accounts, runs / "logs") for job in jobs], queue.note + note


def _queue(ledger: Ledger) -> Queue:
    if not ledger.file.exists():
        return Queue()
    try:
        return ask_slurm()
    except ValueError as error:
        return Queue(note=f"known from the records alone, as Slurm does not answer ({error})")


def _accounts(jobs: Sequence[Submitted]) -> tuple[dict[str, Seen], str]:
    """How jobs ended, from sacct, and from the controller for those that sacct does not tell; and a note on it."""
    accounts: dict[str, Seen] = {}
    note = " and sacct"
    try:
        accounts = ended(job.id for job in jobs)
    except ValueError as error:
        note = f"; how jobs ended from squeue and the records ({error})"
    # Accounting lags behind: squeue no longer lists these jobs.
    accounts = {job: seen for job, seen in accounts.items() if seen.state in ("ended", "failed")}
    if any(not job.find(accounts) for job in jobs):
        try:
            accounts = lately_ended() | accounts
        except ValueError as error:
            note += f"; squeue no longer answers ({error})"
    return accounts, note


def _state(job: BenchJob, submitted: Submitted | None, queue: Queue, accounts: dict[str, Seen], logs: Path) -> State:
    records = read(job.task.records)
    start = next((r for r in reversed(records) if isinstance(r, Start)), None)
    fail = records[-1] if records and isinstance(records[-1], Fail) else None
    slurm = (submitted.find(queue.seen) or submitted.find(accounts)) if submitted else None
    node = (slurm.node if slurm else "") or (start.host if start else "")
    job_id = submitted.id if submitted else ""
    replaced = tuple(record.text for record in records if isinstance(record, Replaced))
    state = partial(State, job=job, id=job_id, node=node, replaced=replaced)
    if job.progress.finished:
        return state(word="finished")
    another = submitted is not None and not slurm and (submitted.replaced or job_id in queue.seen)
    log = () if another else _tail(logs, job_id)
    if slurm and slurm.state in ("running", "waiting", "held"):
        return state(word=slurm.state, reason=_ahead(start) or slurm.reason, left=_left(job, records), log_tail=log)
    earlier = fail and submitted and fail.job != job_id and fail.time < submitted.time
    if slurm and slurm.state == "failed" and (earlier or not fail):
        return state(word="failed", reason=slurm.reason, log_tail=log)
    if fail:
        return state(word="failed", reason=fail.reason, log_tail=log)
    if submitted and queue.cluster:
        return state(word="failed", reason=_lost(job_id, another, bool(start or log), logs), log_tail=log)
    if start:
        age = duration(max(0.0, time.time() - job.task.records.stat().st_mtime))
        return state(word="begun", reason=f"last record {age} ago", left=_left(job, records), log_tail=log)
    if submitted:
        return state(word="submitted", reason=f"{job_id}: how it stands is known once Slurm answers", log_tail=log)
    return state(word="not submitted")


def _lost(job_id: str, another: bool, began: bool, logs: Path) -> str:
    """Reason of a job that ended without Slurm or the records telling why."""
    if another:
        return f"Slurm lost it: {job_id} is another job now (submit again)"
    if not began:
        return f"{job_id} left neither a log nor a record: is {logs.parent} a folder that the nodes share?"
    return "ended before it was done (submit again)"


def _ahead(start: Start | None) -> str:
    """Message if the node's clock was ahead of this one when the job started; else empty."""
    if start and start.time - time.time() > _SKEW:
        return f"the clock of {start.host} is {(start.time - time.time()) / 3600:.1f} hours ahead"
    return ""


def _left(job: BenchJob, records: list[Record]) -> float | None:
    """Expected seconds for the rest at the pace so far; None without records."""
    seconds = [r.seconds for r in records if isinstance(r, Epoch | Verdict)]
    remaining = job.progress.total - job.progress.done
    return sum(seconds) / len(seconds) * remaining if seconds else None


def _tail(logs: Path, job_id: str) -> tuple[str, ...]:
    """Last lines of rank 0's stdout or stderr, whichever was written last."""
    files = [f for kind in ("out", "err") for f in logs.glob(f"{job_id}_0_log.{kind}") if job_id and f.stat().st_size]
    lines: list[str] = []
    for file in sorted(files, key=lambda f: f.stat().st_mtime)[-1:]:
        with open(file, "rb") as log:
            log.seek(max(0, file.stat().st_size - 4096))
            text = log.read().decode(errors="replace")
        # Colours and progress bars are left out.
        lines = [line for part in text.splitlines() if _informs(line := Text.from_ansi(part).plain)]
    return tuple(lines[-_LINES:])


def _informs(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("submitit INFO")


def summary(cells: Iterable[Cell], job_states: Sequence[State]) -> str:
    """Counts for all commands: `1 of 2 cells done, 4 jobs: 3 finished, 1 failed`. A cell is done with all its jobs."""
    undone = {cell.id for state in job_states if state.word != "finished" for cell in _cells(state.job)}
    known = {cell.id for cell in cells}
    words = [state.word for state in job_states]
    counts = ", ".join(f"{words.count(word)} {word}" for word in WORDS if word in words)
    done = f"{len(known - undone)} of {len(known)} cell{'s' * (len(known) != 1)} done"
    return f"{done}, {pluralize(len(words))}: {counts}" if words else f"{done}, no jobs"


def _cells(job: BenchJob) -> Iterable[Cell]:
    """Cells that a job works for."""
    return filter(None, (*job.task.training_cells, job.task.label_cell))
