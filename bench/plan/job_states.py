"""How far the jobs of a manifest are, from Slurm and from the records."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
_EVERY = 5.0
_LINES = 3


@dataclass(frozen=True, kw_only=True)
class State:
    """What is known of one job."""

    job: BenchJob
    word: str
    """finished, running, waiting, failed, begun (records and no Slurm to ask), or `not submitted`."""
    reason: str = ""
    node: str = ""
    id: str = ""
    left: float | None = None
    """Seconds, from the records."""
    said: tuple[str, ...] = ()
    """The last lines of its log."""


def report(path: Path, runs: Path, data: Path, quick: bool, watch: bool, overrides: Sequence[str] = ()) -> None:
    """Print the state of every job of a manifest; again and again where `watch`, until nothing runs or waits."""
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    look = lambda: states(manifest, runs, data)  # noqa: E731
    if watch:
        _watch(manifest, look)
    else:
        show(screen.output(), manifest, *look())


def _watch(manifest: Manifest, look) -> None:
    found, note = look()
    with Live(_table(manifest, found, note), console=screen.output(), refresh_per_second=1) as live:
        while any(state.word in ("running", "waiting") for state in found):
            time.sleep(_EVERY)
            found, note = look()
            live.update(_table(manifest, found, note))


def states(manifest: Manifest, runs: Path, data: Path) -> tuple[list[State], str]:
    """Every job's state, and where it is known from: squeue for what is queued, sacct for what ended, else records."""
    ledger = Ledger(runs)
    seen, comments, cluster, note = {}, {}, "", "known from the records"
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
    unfinished = [ids[job.task.key] for job in jobs if job.task.key in ids and not job.progress.finished]
    gone = [queue for queue in unfinished if queue not in seen]
    accounts = {}
    if gone and cluster:
        try:
            accounts = ended(gone)
            note += " and sacct"
        except ValueError as error:
            note += f"; how jobs ended from the records ({error})"
    return [_state(job, ids.get(job.task.key), seen, accounts, runs / "logs") for job in jobs], note


def _state(job: BenchJob, queue: str | None, seen: dict[str, Seen], accounts: dict[str, Seen], logs: Path) -> State:
    records = read(job.task.records)
    start = next((r for r in reversed(records) if isinstance(r, Start)), None)
    fail = records[-1] if records and isinstance(records[-1], Fail) else None
    account = accounts.get(queue or "")
    if account and account.state in ("running", "waiting"):
        account = None  # the accounts lag behind: squeue no longer has it
    known = seen.get(queue or "") or account
    node = (known.node if known else "") or (start.host if start else "")
    same = {"job": job, "id": queue or "", "node": node}
    if job.progress.finished:
        return State(word="finished", **same)
    said = _tail(logs, queue)
    if known and known.state in ("running", "waiting"):
        return State(
            word=known.state, reason=_ahead(start) or known.reason, left=_left(job, records), said=said, **same
        )
    if fail:
        return State(word="failed", reason=fail.reason, said=said, **same)
    if known and known.state == "failed":
        return State(word="failed", reason=known.reason, said=said, **same)
    if queue and not start and not said:
        why = f"{queue} left neither a log nor a record: is {logs.parent} a folder that the nodes share?"
        return State(word="failed", reason=why, **same)
    if queue:
        return State(word="failed", reason="ended before it was done", said=said, **same)
    if start:
        ago = duration(max(0.0, time.time() - job.task.records.stat().st_mtime))
        return State(word="begun", reason=f"last record {ago} ago", left=_left(job, records), **same)
    return State(word="not submitted", **same)


def _ahead(start: Start | None) -> str:
    """A node's clock that tells a time to come cannot be right."""
    if start and start.time - time.time() > _SKEW:
        return f"the clock of {start.host} is {(start.time - time.time()) / 3600:.1f} hours ahead"
    return ""


def _left(job: BenchJob, records: list[Record]) -> float | None:
    """Seconds that the rest takes if it goes on as before."""
    spent = [r.seconds for r in records if isinstance(r, Epoch | Verdict)]
    left = job.progress.total - job.progress.done
    return sum(spent) / len(spent) * left if spent else None


def _tail(logs: Path, queue: str | None) -> tuple[str, ...]:
    """The last lines that rank 0 wrote to its output, or to its errors where those are later."""
    files = (
        [f for kind in ("out", "err") for f in logs.glob(f"{queue}_0_log.{kind}") if f.stat().st_size] if queue else []
    )
    lines: list[str] = []
    for file in sorted(files, key=lambda f: f.stat().st_mtime)[-1:]:
        with open(file, "rb") as log:
            log.seek(max(0, file.stat().st_size - 4096))
            text = log.read().decode(errors="replace")
        # What colours a terminal or draws a bar on it is left out.
        lines = [line for part in text.splitlines() if _tells(line := Text.from_ansi(part).plain)]
    return tuple(lines[-_LINES:])


def _tells(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("submitit INFO")


def show(console: Console, manifest: Manifest, found: list[State], note: str) -> None:
    """The table, and the last log lines of what failed or runs."""
    console.print(_table(manifest, found, note))
    for state in found:
        if state.word in ("failed", "running") and state.said:
            console.print(f"{state.job.task.key} ({state.id}):", soft_wrap=True)
            for line in state.said if state.word == "failed" else state.said[-1:]:
                console.print(f"  {line}", soft_wrap=True)


_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "waiting": "yellow", "begun": "cyan"}


def _table(manifest: Manifest, found: list[State], note: str) -> Table:
    words = [state.word for state in found]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    table = Table(title=f"{manifest.title}: {counts}", caption=note, title_justify="left", caption_justify="left")
    for head in ("job", "state", "where", "done", "left", "why"):
        table.add_column(head, overflow="fold", justify="right" if head in ("done", "left") else "left")
    called = cell_labels(state.job for state in found)
    for what, states in _together(found).items():
        done, total = (sum(state.job.progress[k] for state in states) for k in (0, 1))
        state = states[0]
        left = duration(state.left) if state.left else ""
        word = Text(state.word, _STYLES.get(state.word, "default"))
        where = " ".join(part for part in (state.id, state.node) if part) if len(states) == 1 else ""
        title = labels.titled(what, called.get(state.job.task.key))
        table.add_row(title, word, where, f"{done}/{total}", left, printable(state.reason))
    return table


def _together(found: list[State]) -> dict[str, list[State]]:
    """Rows: shards and runs of one thing that are all alike are one; nobody reads hundreds of finished ones."""
    groups: dict[str, list[State]] = {}
    for state in found:
        groups.setdefault(state.job.task.group, []).append(state)
    rows: dict[str, list[State]] = {}
    for name, states in groups.items():
        if len({(state.word, state.reason) for state in states}) == 1 and states[0].word != "running":
            rows[f"{name} ({len(states)} jobs)" if len(states) > 1 else states[0].job.task.key] = states
        else:
            rows |= {state.job.task.key: [state] for state in states}
    return rows
