"""Checks of a disturbed run, after all of its work is done."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.jobs.claim import look, new_claim
from bench.records import End, Epoch, Record, Verdict
from bench.records.store import read_lines
from tests.chaos.run import Run

_TEMPORARY = ("*.part", "*.damaged", "checkpoint*.pt", "best.pt", "*.guard")


def judge(run: Run, reference: Path) -> Iterator[str]:
    """Every promise that was broken; `reference` is the runs folder of an undisturbed run."""
    runs = run.user.runs
    yield from _same_records(runs, reference)
    yield from _same_weights(runs, reference)
    yield from _nothing_left_behind(runs)
    yield from _commands(run)
    if jobs := run.slurm.ask("squeue", "-h", "-r"):
        yield f"jobs are queued still: {jobs}"
    if processes := run.slurm.processes():
        yield f"processes of jobs that ended run still: {processes}"


def queued_twice(run: Run) -> Iterator[str]:
    """Tasks that have two jobs in the queue, by the tags of the jobs and the ledger's lines."""
    ledger = run.user.runs / "queue.jsonl"
    answer = run.slurm.ask("squeue", "-h", "-r", "-t", "PENDING,RUNNING,SUSPENDED", "-o", "%i|%k|%T")
    if answer is None or not ledger.exists():
        return
    tasks: dict[str, list[str]] = {}
    for line in ledger.read_bytes().splitlines():
        try:
            entry = json.loads(line)
            tasks[entry["tag"]] = entry["jobs"]
        except ValueError:
            continue  # a submitter was killed within the line
    found: dict[str, list[str]] = {}
    for line in answer.splitlines():
        job, tag, _ = line.split("|", 2)
        names = tasks.get(tag, [])
        number = int(job.split("_")[1]) if "_" in job else 0
        if number < len(names):
            found.setdefault(names[number], []).append(line)
    yield from (f"{task} is queued twice: {', '.join(jobs)}" for task, jobs in found.items() if len(jobs) > 1)


def _records(runs: Path) -> dict[str, list[tuple[Path, list[Record], str]]]:
    """The records files of each folder, with what is left out of them."""
    found: dict[str, list[tuple[Path, list[Record], str]]] = {}
    for file in sorted(runs.rglob("*.jsonl")):
        if file.parent not in (runs, runs / "logs"):
            found.setdefault(str(file.parent.relative_to(runs)), []).append((file, *read_lines(file)))
    return found


def _content(records: list[Record]) -> Counter:
    """The records that equal those of an undisturbed run: epochs with their losses, evaluations with their results."""
    content: Counter = Counter()
    for record in records:
        if isinstance(record, Epoch):
            # A timing study takes the rounds' order of images from their place in the process: losses may differ.
            content["epoch", record.arm, record.round, record.epoch, record.loss if record.round is None else 0] += 1
        if isinstance(record, Verdict):
            content["verdict", record.eval, record.index, record.prediction, record.radius] += 1
    return content


def _same_records(runs: Path, reference: Path) -> Iterator[str]:
    expected, found = _records(reference), _records(runs)
    for folder in sorted(expected.keys() | found.keys()):
        files = found.get(folder, [])
        yield from (left_out for _, _, left_out in files if left_out)
        want = _content([record for _, records, _ in expected.get(folder, []) for record in records])
        have = _content([record for _, records, _ in files for record in records])
        if missing := want - have:
            yield f"{folder}: not recorded: {_few(missing)}"
        if surplus := have - want:
            yield f"{folder}: recorded too often, or differs from the undisturbed run: {_few(surplus)}"
        for file, records, _ in files:
            if records and file.name in ("train.jsonl", "time.jsonl") and not isinstance(records[-1], End):
                yield f"{file}: ends with {records[-1].kind}"


def _few(content: Counter) -> str:
    return f"{list(content)[:3]} ({content.total()} in all)"


def _same_weights(runs: Path, reference: Path) -> Iterator[str]:
    for file in sorted(reference.glob("*/model.pt")):
        name = file.relative_to(reference)
        if not (runs / name).exists():
            yield f"{name}: missing"
            continue
        if (runs / name).read_bytes() == file.read_bytes():
            continue
        import torch  # slow, and seldom needed

        want, have = (torch.load(folder / name, weights_only=True) for folder in (reference, runs))
        unequal = [key for key in want if not torch.equal(want[key], have[key])]
        if unequal:
            yield f"{name}: differs from the undisturbed run's in {', '.join(unequal[:3])}"


def _nothing_left_behind(runs: Path) -> Iterator[str]:
    for pattern in _TEMPORARY:
        if files := sorted(str(file.relative_to(runs)) for file in runs.rglob(pattern)):
            yield f"left behind: {', '.join(files[:4])} ({len(files)} in all)"
    for claim in sorted(runs.rglob("*.claim")):
        holder = look(claim).claim
        if holder is None or holder.is_alive(new_claim()) is not False:
            yield f"{claim}: a claim that blocks: {holder}"


def _commands(run: Run) -> Iterator[str]:
    """Status and report end well and count the same cells."""
    shells = {
        name: (
            run.user.start("bench.status", name),
            run.user.start("reports", name, "--html", run.user.folder / f"{name}.html"),
        )
        for name in run.user.names
    }
    for name, pair in shells.items():
        status, report = (shell.wait() for shell in pair)
        for said in (status, report):
            if said.broken or said.code:
                yield said.broken or f"{said.command} ends with exit code {said.code}: {said.text[-300:]}"
        counts = [re.findall(r"(\d+) of (\d+) cells?", said.text) for said in (status, report)]
        undone = [pair for found in counts for pair in found if pair[0] != pair[1]]
        if undone:
            yield f"{name}: status and report count {counts}"
