"""The table of attacks on a checkpoint: made, gone on with, summed up."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from bench import records
from bench.cell import Spec
from bench.command import warnings_as_notes
from bench.commands import image_table
from bench.commands.checkpoint import Checkpoint
from bench.commands.image_table import percentage
from bench.manifest.messages import typed
from bench.records import Verdict
from bench.results.statistics import wilson
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.plugins import plugins
from crt.text import printable
from crt.threat import Threat

MEANING = (
    "An attack gives an upper bound of robust accuracy and proves nothing: another attack may break images that"
    " withstood this one."
)


def report(
    checkpoint: Checkpoint,
    attack: str,
    asked: dict,
    norm: str,
    eps: str,
    seed: int,
    out: Path | None,
    runs: Path,
    data: Path,
) -> None:
    """Attack the images that the table does not hold yet, and print its summary.

    `asked` are the arguments of the attack, which errors call by the command's options; `eps` is as people write it;
    `out` is the table, by default one in `runs` that its settings name. ValueError for what cannot be attacked so.
    """
    console = screen.output()
    spec, evaluation = _evaluation(attack, asked, _threat(norm, eps))
    model, digest = checkpoint.load()
    test = Beton(ensure(DATASETS[checkpoint.dataset], "test", data))
    ball = {"attack": attack, **evaluation.threat.model_dump(include={"norm", "eps"})}
    settings = image_table.settings(checkpoint, digest, seed, spec, evaluation, ball)
    out = out or image_table.table_path(runs, "attack", checkpoint, settings, ".jsonl")
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, {norm} eps {eps}"
    with warnings_as_notes():
        verdicts = attacked(model, evaluation, spec, test, settings, out, title)
    console.print(title, soft_wrap=True)
    console.print(summary(verdicts, len(test)))
    console.print(MEANING, soft_wrap=True)
    console.print(f"{printable(str(out))}: {len(verdicts)} images", soft_wrap=True)


def attacked(
    model: Classifier, evaluation: Evaluation, spec: Spec, test: Beton, settings: dict, out: Path, title: str
) -> list[Verdict]:
    """Verdicts on the images asked for, each appended to the table `out` as it is found if it is not there."""
    claim = image_table.claimed(out, settings)
    verdicts = {verdict.index: verdict for verdict in records.read(out)}

    def keep(index: int, label: int, found: Judgement, seconds: float) -> str:
        verdicts[index] = Verdict(
            eval=spec.id,
            index=index,
            label=label,
            prediction=found.prediction,
            radius=found.radius,
            skipped=found.skipped,
            seconds=seconds,
            details=found.details,
        )
        claim.append(verdicts[index])
        return "wrong before" if found.skipped else "withstood" if found.radius else "broken"

    asked = spec.indices(len(test))
    image_table.judge_rest(evaluation, model, test, asked, verdicts, settings["seed"], title, keep)
    return [verdicts[index] for index in asked]


def summary(verdicts: Sequence[Verdict], available: int) -> Table:
    """Clean accuracy, the accuracy that withstood the attack, and cost, with the choice of images they are of."""
    choice = image_table.choice([verdict.index for verdict in verdicts], available)
    right = [verdict for verdict in verdicts if verdict.prediction == verdict.label]
    robust = sum(verdict.radius > 0 for verdict in right)
    table = Table(Column("", no_wrap=True), Column(choice, no_wrap=True), Column("95 % interval", no_wrap=True))
    table.add_row("% clean accuracy", *percentage(wilson(len(right), len(verdicts))))
    table.add_row("% robust accuracy, at most", *percentage(wilson(robust, len(verdicts))))
    table.add_row("images broken", str(len(right) - robust), "")
    table.add_row("images/s", f"{len(verdicts) / sum(verdict.seconds for verdict in verdicts):.3g}", "")
    return table


def _threat(norm: str, eps: str) -> Threat:
    try:
        threat = typed(Threat, {"norm": norm, "eps": eps}, "threat")
    except ValueError as error:
        raise ValueError(str(error).replace("threat.", "--").replace("threat:", f"--eps {eps}:")) from None
    if threat.eps == 0:
        raise ValueError(f"--eps {eps}: an attack needs eps > 0")
    return threat


def _evaluation(name: str, asked: dict, threat: Threat) -> tuple[Spec, Any]:
    attacks = {known: each for known, each in plugins("crt.evals").items() if each.kind == "attack"}
    if name not in attacks:
        raise ValueError(f"--attack {name}: unknown (allowed: {', '.join(sorted(attacks))})")
    for key in ("steps", "restarts", "loss"):
        takes = [known for known, each in attacks.items() if key in inspect.signature(each).parameters]
        if key in asked and name not in takes:
            raise ValueError(f"--{key} {asked[key]}: {name} has no such argument (allowed with: {', '.join(takes)})")
    return image_table.evaluation(name, asked, threat)
