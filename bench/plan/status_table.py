"""Table of the states of a manifest's jobs, printed once or again and again."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live

from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.measure.durations import duration
from bench.plan.job_states import State, states, summary
from bench.plan.waves import cell_labels
from crt import screen
from crt.fitted_table import FittedTable
from crt.table_layout import Column
from crt.text import printable

_STYLES = {
    **{"finished": "green", "running": "cyan", "failed": "red", "waiting": "yellow"},
    **{"held": "red", "begun": "cyan", "submitted": "yellow"},
}
Look = Callable[[], tuple[list[State], str]]


def report(path: Path, runs: Path, data: Path, quick: bool, every: float | None, overrides: Sequence[str] = ()) -> None:
    """Print the state of every job of a manifest; again `every` so many seconds, until all jobs have ended."""
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    look = lambda: states(manifest, runs, data)  # noqa: E731
    if every is None:
        show(screen.output(), manifest, *look())
    else:
        watch(screen.output(), manifest, look, every)


def show(console: Console, manifest: Manifest, job_states: list[State], note: str) -> None:
    """Print the table, damaged files that jobs replaced, and the last log lines of failed and running jobs."""
    console.print(_table(manifest, job_states, job_states, note), crop=False)
    for state in job_states:
        for text in state.replaced:
            console.print(f"{state.job.task.key}: a damaged file was replaced: {text}", soft_wrap=True)
        if state.word in ("failed", "running") and state.log_tail:
            console.print(f"{state.job.task.key} ({state.id}):", soft_wrap=True)
            for line in state.log_tail if state.word == "failed" else state.log_tail[-1:]:
                console.print(f"  {line}", soft_wrap=True)


def watch(console: Console, manifest: Manifest, look: Look, every: float) -> None:
    """Redraw the unfinished jobs on a terminal; elsewhere print them where a state or a count has changed.

    It ends with the whole table.
    """
    job_states, note = look()
    printed = None
    terminal = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext()
    with terminal as live:
        while not _ended(job_states):
            rest = [state for state in job_states if state.word != "finished"]
            table = _table(manifest, job_states, rest, note)
            progress = [(state.word, state.job.progress.done) for state in job_states]
            if live:
                live.update(table, refresh=True)
            elif progress != printed:
                console.print(table, crop=False)
                printed = progress
            time.sleep(every)
            job_states, note = look()
    show(console, manifest, job_states, note)


def _ended(job_states: list[State]) -> bool:
    """True if no job will change its state. Where there is no queue to ask, others may still submit or resume a job."""
    changing = {"running", "waiting", "held", "begun", "submitted"}
    if not any(state.id for state in job_states):
        changing.add("not submitted")
    return not any(state.word in changing for state in job_states)


def _table(manifest: Manifest, job_states: list[State], listed: list[State], note: str) -> FittedTable:
    """Table of the jobs `listed`, headed by the counts of all jobs."""
    label_by_key = cell_labels(state.job for state in job_states)
    rows = _rows(listed)
    titles = []
    for name, row in rows.items():
        title = " ".join(filter(None, (name, label_by_key.get(row[0].job.task.key))))
        titles.append("\n".join(filter(None, (title, printable(row[0].reason)))))
    words = [row[0].word for row in rows.values()]
    left = [duration(row[0].left) if row[0].left else "" for row in rows.values()]
    where = [" ".join(filter(None, (row[0].id, row[0].node))) if len(row) == 1 else "" for row in rows.values()]
    columns = [
        Column("job", titles, left=True, fold=True, fixed=True),
        Column("state", words, left=True, fixed=True, styles=[_STYLES.get(word, "") for word in words]),
        Column("done", list(map(_done, rows.values())), fixed=True),
        Column("left", left, hide=2),
        Column("where", where, left=True, fold=True, hide=1),
    ]
    return FittedTable(f"{manifest.title}: {summary(manifest.cells, job_states)}", columns, caption=note)


def _done(row: list[State]) -> str:
    progress = [state.job.progress for state in row]
    return f"{sum(each.done for each in progress)}/{sum(each.total for each in progress)}"


def _rows(job_states: list[State]) -> dict[str, list[State]]:
    """Rows of the table by name. The jobs of a group share a row if all have the same state and none runs."""
    groups: dict[str, list[State]] = {}
    for state in job_states:
        groups.setdefault(state.job.task.group, []).append(state)
    rows: dict[str, list[State]] = {}
    for name, group in groups.items():
        if len(group) == 1:
            rows[name] = group
        elif len({(state.word, state.reason) for state in group}) == 1 and group[0].word != "running":
            rows[f"{name} ({len(group)} jobs)"] = group
        else:
            rows |= {state.job.task.key: [state] for state in group}
    return rows
