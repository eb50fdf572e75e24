"""Create, resume and summarize the table of an attack on a checkpoint."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from bench import records
from bench.cell import Spec
from bench.command import warnings_as_notes
from bench.commands import image_table, summary, summary_page
from bench.commands.checkpoint import Checkpoint
from bench.commands.image_table import percentage
from bench.commands.summary import Summary
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

GUARANTEE = (
    "No guarantee: the robust accuracy is an upper bound, and proves nothing, for a stronger attack may break images"
    " that withstood this one."
)


def report(
    checkpoint: Checkpoint,
    attack: str,
    arguments: dict[str, Any],
    norm: str,
    eps: str,
    seed: int,
    out: Path | None,
    runs: Path,
    data: Path,
    json: Path | None,
    html: Path | None,
) -> None:
    """Attack the images that the table does not hold yet, print its summary, and write it to `json` and `html`.

    `arguments` are those of the attack; errors name them by the command's options. `eps` is text such as 8/255. `out`
    is the table's file, by default one in `runs` named by a digest of the settings. ValueError for a wrong argument or
    file.
    """
    console = screen.output()
    spec, evaluation = _evaluation(attack, arguments, _threat(norm, eps))
    model, digest = checkpoint.load()
    test = Beton(ensure(DATASETS[checkpoint.dataset], "test", data))
    ball = {"attack": attack, **evaluation.threat.model_dump(include={"norm", "eps"})}
    settings = image_table.settings(checkpoint, digest, seed, spec, evaluation, ball)
    out = out or image_table.table_path(runs, "attack", checkpoint, settings, ".jsonl")
    summary.check_files({"--json": json, "--html": html}, out, checkpoint.file)
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, {norm} eps {eps}"
    with warnings_as_notes():
        verdicts = attacked(model, evaluation, spec, test, settings, out, title)
    choice = image_table.choice([verdict.index for verdict in verdicts], len(test))
    seconds = sum(verdict.seconds for verdict in verdicts)
    fields = summary.common(checkpoint, digest, spec, seed, choice, seconds, out)
    result = summarize(verdicts, evaluation.threat, fields)
    console.print(title, soft_wrap=True)
    console.print(_table(result))
    console.print(result.guarantee, soft_wrap=True)
    console.print(f"{printable(str(out))}: {len(verdicts)} images", soft_wrap=True)
    for file in summary_page.write(result, (), json, html):
        console.print(f"wrote {printable(str(file))}", soft_wrap=True)


def attacked(
    model: Classifier, evaluation: Evaluation, spec: Spec, test: Beton, settings: dict, out: Path, title: str
) -> list[Verdict]:
    """Verdicts on the images that `spec` selects; those not in the table `out` are judged and appended one by one."""
    lease = image_table.claimed(out, settings)
    verdicts = {verdict.index: verdict for verdict in records.read(out) if isinstance(verdict, Verdict)}

    def keep(index: int, label: int, judgement: Judgement, seconds: float) -> str:
        verdicts[index] = Verdict(
            eval=spec.id,
            index=index,
            label=label,
            prediction=judgement.prediction,
            radius=judgement.radius,
            skipped=judgement.skipped,
            seconds=seconds,
            details=judgement.details,
        )
        lease.append(verdicts[index])
        return "wrong before" if judgement.skipped else "withstood" if judgement.radius else "broken"

    indices = spec.indices(len(test))
    image_table.judge_rest(evaluation, model, test, indices, verdicts, settings["seed"], title, keep)
    return [verdicts[index] for index in indices]


def summarize(verdicts: Sequence[Verdict], threat: Threat, fields: dict[str, Any]) -> Summary:
    """Clean accuracy, and robust accuracy under the attack at the threat's radius; `fields` are the common ones."""
    correct = [verdict for verdict in verdicts if verdict.prediction == verdict.label]
    robust = sum(verdict.radius > 0 for verdict in correct)
    return Summary(
        command="attack",
        guarantee=GUARANTEE,
        proof=False,
        threat={"norm": threat.norm, "eps": threat.eps},
        clean_accuracy=summary.share(wilson(len(correct), len(verdicts))),
        robust_accuracy=(summary.share_at(threat.eps, wilson(robust, len(verdicts))),),
        images_broken=len(correct) - robust,
        **fields,
    )


def _table(result: Summary) -> Table:
    """Clean accuracy, robust accuracy under the attack, and speed, headed by the choice of images."""
    table = Table(
        Column("", no_wrap=True), Column(result.images.choice, no_wrap=True), Column("95 % interval", no_wrap=True)
    )
    table.add_row("% clean accuracy", *percentage(result.clean_accuracy))
    table.add_row("% robust accuracy, at most", *percentage(result.robust_accuracy[0]))
    table.add_row("images broken", str(result.images_broken), "")
    table.add_row("images/s", f"{result.images_per_second:.3g}", "")
    return table


def _threat(norm: str, eps: str) -> Threat:
    try:
        threat = typed(Threat, {"norm": norm, "eps": eps}, "threat")
    except ValueError as error:
        raise ValueError(str(error).replace("threat.", "--").replace("threat:", f"--eps {eps}:")) from None
    if threat.eps == 0:
        raise ValueError(f"--eps {eps}: an attack needs eps > 0")
    return threat


def _evaluation(name: str, arguments: dict[str, Any], threat: Threat) -> tuple[Spec, Any]:
    attacks = {key: kind for key, kind in plugins("crt.evals").items() if kind.kind == "attack"}
    if name not in attacks:
        raise ValueError(f"--attack {name}: unknown (allowed: {', '.join(sorted(attacks))})")
    for key in ("steps", "restarts", "loss"):
        takers = [attack for attack, kind in attacks.items() if key in inspect.signature(kind).parameters]
        if key in arguments and name not in takers:
            raise ValueError(
                f"--{key} {arguments[key]}: {name} has no such argument (allowed with: {', '.join(takers)})"
            )
    return image_table.evaluation(name, arguments, threat)
