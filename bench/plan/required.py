"""Lines of a plan: the runs and hours that a stated precision needs, by records or by a stated assumption."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import stdev

from bench.jobs.timing_tasks import TimeTask
from bench.manifest.manifest import Manifest
from bench.measure.durations import summed
from bench.plan.estimate import Expected
from bench.plan.waves import BenchJob

ASSUMED = 0.02
"""Standard deviation between runs of the ratio of two times, where no records show it."""


def required(manifest: Manifest, jobs: Sequence[BenchJob], times: Mapping[str, Expected], whose: str) -> Iterator[str]:
    """Yield a line for each study of a manifest with `timing.until` that has unfinished jobs."""
    timing = manifest.timing
    if timing is None or timing.until is None:
        return
    studies: dict[str, list[TimeTask]] = {}
    for job in jobs:
        if isinstance(job.task, TimeTask):
            studies.setdefault(job.task.id, []).append(job.task)
    for study, tasks in studies.items():
        runs, complete, reason = _runs(tasks[0])
        seconds = times[tasks[0].key].seconds
        more = max(0, runs - complete)
        cost = f", {summed(more * seconds * tasks[0].ranks, whose)} more" if more and seconds is not None else ""
        limit = f"; at_most ends it at {timing.most_runs}, with a wider interval" if runs > timing.most_runs else ""
        yield f"±{100 * timing.until:g} % of each ratio of {study} needs {runs} runs{cost}: {reason}{limit}."


def _runs(task: TimeTask) -> tuple[int, int, str]:
    """The number of runs that a study needs, beyond its limit too, how many are complete, and what it follows from."""
    from bench.results.precision import run_means, runs_for  # imports scipy, which other manifests do not need

    timing = task.study.timing
    until, first = timing.until or 0.0, timing.runs
    means = list(run_means(task.study, task.place.runs).values())
    complete = min(map(len, means), default=0)
    recorded = [stdev(values[:first]) for values in means if len(values) > 1]
    spread = max(recorded, default=ASSUMED)
    source = "assumed, for want of records:" if not recorded else f"by the first {min(complete, first)}"
    return max(first, runs_for(spread, until, first)), complete, f"{source} runs differ by {100 * spread:.2g} % (sd)"
