"""States of a manifest's jobs, from Slurm and from the records."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.jobs.lease import JobPaths
from bench.jobs.tasks import EvaluateTask
from bench.manifest import labels, read_manifest
from bench.manifest.manifest import Manifest
from bench.measure.durations import duration
from bench.plan.waves import BenchJob, cell_labels, waves
from bench.records import Epoch, Fail, Record, Start, Verdict, read
from crt import screen
from crt.text import printable
from launchers.ledger import Ledger, latest
from launchers.states import Seen, check, ended, queued, site

_SKEW = 300.0
"""Seconds by which a node's clock may be ahead."""
_EVERY = 5.0
"""Seconds between two looks with `watch`."""
_LINES = 3
"""Log lines to show of a job."""


@dataclass(frozen=True, kw_only=True)
class State:
    """State of a job."""

    job: BenchJob
    word: str
    """finished, running, waiting, failed, begun (there are records but no Slurm to ask), or `not submitted`."""
    reason: str = ""
    node: str = ""
    id: str = ""
    left: float | None = None
    """Expected seconds for the rest, from the records."""
    log_tail: tuple[str, ...] = ()
    """Last lines of the job's log."""


def report(path: Path, runs: Path, data: Path, quick: bool, watch: bool, overrides: Sequence[str] = ()) -> None:
    """Print the state of every job of a manifest; with `watch`, repeatedly until no job runs or waits."""
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    look = lambda: states(manifest, runs, data)  # noqa: E731
    if watch:
        _watch(manifest, look)
    else:
        show(screen.output(), manifest, *look())


def _watch(manifest: Manifest, look: Callable[[], tuple[list[State], str]]) -> None:
    job_states, note = look()
    with Live(_table(manifest, job_states, note), console=screen.output(), refresh_per_second=1) as live:
        while any(state.word in ("running", "waiting") for state in job_states):
            time.sleep(_EVERY)
            job_states, note = look()
            live.update(_table(manifest, job_states, note))


def states(manifest: Manifest, runs: Path, data: Path) -> tuple[list[State], str]:
    """State of every job, and a note on its source: squeue for queued jobs, sacct for ended ones, else records."""
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
    place = JobPaths(runs=runs, data=data, process="fresh")
    jobs = [job for wave in waves(manifest, place, EvaluateTask.shards_of(ids)) for job in wave.jobs]
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


def show(console: Console, manifest: Manifest, job_states: list[State], note: str) -> None:
    """Print the table, and the last log lines of failed and running jobs."""
    console.print(_table(manifest, job_states, note))
    for state in job_states:
        if state.word in ("failed", "running") and state.log_tail:
            console.print(f"{state.job.task.key} ({state.id}):", soft_wrap=True)
            for line in state.log_tail if state.word == "failed" else state.log_tail[-1:]:
                console.print(f"  {line}", soft_wrap=True)


_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "waiting": "yellow", "begun": "cyan"}


def _table(manifest: Manifest, job_states: list[State], note: str) -> Table:
    words = [state.word for state in job_states]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    table = Table(title=f"{manifest.title}: {counts}", caption=note, title_justify="left", caption_justify="left")
    for head in ("job", "state", "where", "done", "left", "why"):
        table.add_column(head, overflow="fold", justify="right" if head in ("done", "left") else "left")
    label_by_key = cell_labels(state.job for state in job_states)
    for name, row in _rows(job_states).items():
        done = sum(state.job.progress.done for state in row)
        total = sum(state.job.progress.total for state in row)
        state = row[0]
        left = duration(state.left) if state.left else ""
        word = Text(state.word, _STYLES.get(state.word, "default"))
        where = " ".join(part for part in (state.id, state.node) if part) if len(row) == 1 else ""
        title = labels.titled(name, label_by_key.get(state.job.task.key))
        table.add_row(title, word, where, f"{done}/{total}", left, printable(state.reason))
    return table


def _rows(job_states: list[State]) -> dict[str, list[State]]:
    """Rows of the table by name. The jobs of a group share a row if all have the same state and none runs."""
    groups: dict[str, list[State]] = {}
    for state in job_states:
        groups.setdefault(state.job.task.group, []).append(state)
    rows: dict[str, list[State]] = {}
    for name, group in groups.items():
        if len({(state.word, state.reason) for state in group}) == 1 and group[0].word != "running":
            rows[f"{name} ({len(group)} jobs)" if len(group) > 1 else group[0].job.task.key] = group
        else:
            rows |= {state.job.task.key: [state] for state in group}
    return rows
