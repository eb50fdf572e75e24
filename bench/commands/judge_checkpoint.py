"""Judge the images of a checkpoint into a table that later calls resume, and summarize it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Column, Table

from bench.cell import Spec
from bench.command import warnings_as_notes
from bench.commands import image_table, summary, summary_page
from bench.commands.checkpoint import Checkpoint
from bench.commands.summary import EstimateAtRadius, Summary
from bench.jobs.lease import RecordLease
from bench.records import Verdict
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.text import printable


@dataclass(frozen=True, kw_only=True)
class Request:
    """The network that a command judges, and the files that it reads and writes."""

    checkpoint: Checkpoint
    seed: int
    out: Path | None
    """The table's file; None for one in `runs`, named by a digest of the settings."""
    runs: Path
    data: Path
    json: Path | None
    html: Path | None


@dataclass(frozen=True)
class Judging(ABC):
    """An evaluation of a checkpoint by a command: the format of its table, and its summary."""

    command: ClassVar[str]
    suffix: ClassVar[str]
    """Suffix of the table's file."""

    spec: Spec
    evaluation: Evaluation
    threat: dict[str, Any]
    """Settings of the table that describe the threat."""
    words: str
    """The threat in words."""

    @abstractmethod
    def read(self, file: Path) -> list[Verdict]:
        """Verdicts of the table, which is created where its format has a header."""

    @abstractmethod
    def append(self, lease: RecordLease, file: Path, verdict: Verdict) -> None:
        """Append a verdict to the table."""

    @abstractmethod
    def result(self, verdict: Verdict) -> str:
        """A word on the verdict, for the progress bar."""

    @abstractmethod
    def summarize(self, verdicts: Sequence[Verdict], fields: dict[str, Any]) -> Summary:
        """Summary of the verdicts; `fields` are those that all summaries have."""

    @abstractmethod
    def lines(self, result: Summary) -> list[tuple[str, str, str]]:
        """Lines of the printed table: figure, value, and interval."""

    def curve(self, verdicts: Sequence[Verdict]) -> list[EstimateAtRadius]:
        """Accuracies at radii that the page draws; empty for no curve."""
        return []


def report(request: Request, judging: Judging) -> None:
    """Judge the images that the table does not hold yet, print its summary, and write it to the requested files.

    ValueError for a wrong option or file, before any image is judged.
    """
    console, checkpoint, spec = screen.output(), request.checkpoint, judging.spec
    model, digest = checkpoint.load()
    test = Beton(ensure(DATASETS[checkpoint.dataset], "test", request.data))
    settings = image_table.settings(checkpoint, digest, request.seed, spec, judging.evaluation, judging.threat)
    out = request.out or image_table.table_path(request.runs, judging.command, checkpoint, settings, judging.suffix)
    summary.check_files({"--json": request.json, "--html": request.html}, out, checkpoint.file)
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, {judging.words}"
    with warnings_as_notes():
        verdicts = _judged(judging, model, test, settings, out, title)
    choice = image_table.choice([verdict.index for verdict in verdicts], len(test))
    seconds = sum(verdict.seconds for verdict in verdicts)
    fields = summary.common(checkpoint, digest, spec, request.seed, choice, seconds, out)
    result = judging.summarize(verdicts, fields)
    console.print(title, soft_wrap=True)
    console.print(_table(judging, result))
    console.print(result.guarantee, soft_wrap=True)
    console.print(f"{printable(str(out))}: {len(verdicts)} images", soft_wrap=True)
    for file in summary_page.write(result, judging.curve(verdicts), request.json, request.html):
        console.print(f"wrote {printable(str(file))}", soft_wrap=True)


def _judged(judging: Judging, model: Classifier, test: Beton, settings: dict, out: Path, title: str) -> list[Verdict]:
    """Verdicts on the chosen images; those not in the table `out` are judged and appended one by one."""
    with image_table.claimed(out, settings) as lease:
        return _judged_into(judging, model, test, settings["seed"], lease, title)


def _judged_into(
    judging: Judging, model: Classifier, test: Beton, seed: int, lease: RecordLease, title: str
) -> list[Verdict]:
    out = lease.file
    verdicts = {verdict.index: verdict for verdict in judging.read(out)}

    def keep(index: int, label: int, judgement: Judgement, seconds: float) -> str:
        verdicts[index] = Verdict(
            eval=judging.spec.id,
            index=index,
            label=label,
            prediction=judgement.prediction,
            radius=judgement.radius,
            skipped=judgement.skipped,
            seconds=seconds,
            details=judgement.details,
        )
        judging.append(lease, out, verdicts[index])
        return judging.result(verdicts[index])

    indices = judging.spec.indices(len(test))
    image_table.judge_rest(judging.evaluation, model, test, indices, verdicts, seed, title, keep)
    return [verdicts[index] for index in indices]


def _table(judging: Judging, result: Summary) -> Table:
    """The figures with their intervals and the speed, headed by the choice of images."""
    table = Table(*(Column(head, no_wrap=True) for head in ("", result.images.choice, "95 % interval")))
    for line in judging.lines(result):
        table.add_row(*line)
    table.add_row("images/s", f"{result.images_per_second:.3g}", "")
    return table
