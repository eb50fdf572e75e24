"""Times of the cells now, relative to those before."""

from collections.abc import Iterator

import pandas as pd

from bench.manifest.labels import Names
from bench.results.against import Change
from bench.results.columns import SOURCE, Source, named
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, network, with_labels

_NAMES = (
    "dataset,arch,method,norm,trained_eps,sigma,ranks,runs_before,runs_now,commit_before,commit_now,change,change_low,"
    "change_high,p,verdict,slowdown_change,slowdown_change_low,slowdown_change_high"
)


def change_frame(changes: list[Change]) -> pd.DataFrame:
    """A row per cell that was timed both now and before; its seeds are one row."""
    names = Names(change.now[0].cell.seedless for change in changes)
    return pd.DataFrame([_row(change, names) for change in changes], columns=[*_NAMES.split(","), SOURCE])


def _row(change: Change, names: Names) -> dict[str, object]:
    cell = change.now[0].cell.seedless
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": names.full_label(cell),
        "norm": cell.threat.norm,
        "trained_eps": cell.threat.eps,
        "sigma": cell.threat.sigma,
        "ranks": cell.ranks,
        "runs_before": change.runs[1],
        "runs_now": change.runs[0],
        "commit_before": _commits(change.before),
        "commit_now": _commits(change.now),
        **named("change", change.ratio),
        **named("slowdown_change", change.slowdown),
        "p": change.p,
        "verdict": change.verdict,
        SOURCE: Source(change.now[0], change.before[0]),
    }


def _commits(measured: tuple) -> str | None:
    commits = {start.commit[:10] for m in measured for start in m.started.values() if start.commit}
    return ", ".join(sorted(commits)) or None


def changes_table(changes: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the changes of the times."""
    rows = with_labels(changes)
    columns = [
        *network(rows, "trained_for sigma ranks"),
        *(Column(f"runs_{when}", f"runs {when}", "count", hide=2) for when in ("before", "now")),
        *(Column(f"commit_{when}", f"commit {when}", "label", optional=BOTH, hide=1) for when in ("before", "now")),
        Column("change", "time now / before", "ratio", "time", "now / before"),
        Column("slowdown_change", "slowdown now / before", "ratio", "slowdown", "now / before", optional=BOTH),
        Column("p", "adjusted p", "probability", "adjusted $p$"),
        *alike("verdict", "word"),
    ]
    title = "Time of an epoch and slowdown now, relative to before (p adjusted for the number of cells, Holm)"
    yield TableSpec(title, "time of an epoch and slowdown now, relative to before.", columns, rows, [INTERVALS])
