"""States of a manifest's jobs, from Slurm and from the records."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.text import Text

from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.jobs.tasks import DataTask, EvaluateTask
from bench.manifest.manifest import Manifest
from bench.measure.durations import duration
from bench.plan.waves import BenchJob, BenchWave, pluralize, waves
from bench.records import Epoch, Fail, Record, Start, Verdict, read
from launchers.ledger import Ledger, latest
from launchers.states import Seen, check, ended, queued, site

_SKEW = 300.0
"""Seconds by which a node's clock may be ahead."""
_LINES = 3
"""Log lines to show of a job."""
WORDS = ("finished", "running", "waiting", "failed", "begun", "not submitted")
"""States of a job: `begun` means that there are records but no Slurm to ask."""


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


def states(
    manifest: Manifest, runs: Path, data: Path, planned: Sequence[BenchWave] | None = None
) -> tuple[list[State], str]:
    """State of every job, and a note on its source: squeue for queued jobs, sacct for ended ones, else records.

    Without `planned`, the jobs are those of the manifest, split as they were submitted.
    """
    ledger = Ledger(runs)
    seen: dict[str, Seen] = {}
    comments: dict[str, str] = {}
    cluster, note = "", "known from the records"
    if ledger.file.exists():
        try:
            check()
            cluster = site().name
            seen, comments = queued()
            note = f"known from squeue on {cluster}"
        except ValueError as error:
            note = f"known from the records alone ({error})"
    entries = ledger.entries(cluster, comments)
    ids = latest(entries)
    if planned is None:
        place = JobPaths(runs=runs, data=data, process="fresh")
        planned = waves(manifest, place, EvaluateTask.shards_of(ids), DataTask.sources_of(ids, data))
    jobs = [job for wave in planned for job in wave.jobs]
    submitted = [ids[job.task.key] for job in jobs if job.task.key in ids and not job.progress.finished]
    dequeued = [job_id for job_id in submitted if job_id not in seen]
    accounts: dict[str, Seen] = {}
    if dequeued and cluster:
        try:
            accounts = ended(dequeued)
            note += " and sacct"
        except ValueError as error:
            note += f"; how jobs ended from the records ({error})"
    return [_state(job, ids.get(job.task.key), seen, accounts, runs / "logs") for job in jobs], note


def _state(job: BenchJob, job_id: str | None, seen: dict[str, Seen], accounts: dict[str, Seen], logs: Path) -> State:
    records = read(job.task.records)
    start = next((r for r in reversed(records) if isinstance(r, Start)), None)
    fail = records[-1] if records and isinstance(records[-1], Fail) else None
    account = accounts.get(job_id or "")
    if account and account.state in ("running", "waiting"):
        account = None  # accounting lags behind: squeue no longer lists the job
    slurm = seen.get(job_id or "") or account
    node = (slurm.node if slurm else "") or (start.host if start else "")
    state = partial(State, job=job, id=job_id or "", node=node)
    if job.progress.finished:
        return state(word="finished")
    log = _tail(logs, job_id)
    if slurm and slurm.state in ("running", "waiting"):
        return state(word=slurm.state, reason=_ahead(start) or slurm.reason, left=_left(job, records), log_tail=log)
    if fail:
        return state(word="failed", reason=fail.reason, log_tail=log)
    if slurm and slurm.state == "failed":
        return state(word="failed", reason=slurm.reason, log_tail=log)
    if job_id and not start and not log:
        reason = f"{job_id} left neither a log nor a record: is {logs.parent} a folder that the nodes share?"
        return state(word="failed", reason=reason)
    if job_id:
        return state(word="failed", reason="ended before it was done", log_tail=log)
    if start:
        age = duration(max(0.0, time.time() - job.task.records.stat().st_mtime))
        return state(word="begun", reason=f"last record {age} ago", left=_left(job, records))
    return state(word="not submitted")


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


def _tail(logs: Path, job_id: str | None) -> tuple[str, ...]:
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
