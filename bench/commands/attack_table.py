"""The table of an attack on a checkpoint, and its summary."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import records
from bench.cell import Spec
from bench.commands import image_table, summary
from bench.commands.image_table import percentage
from bench.commands.judge_checkpoint import Judging
from bench.commands.summary import Summary
from bench.jobs.lease import RecordLease
from bench.manifest.messages import typed
from bench.records import Verdict
from bench.results.robustness import right
from bench.results.statistics import wilson
from crt.evals.base import Evaluation
from crt.plugins import plugins
from crt.threat import Threat

GUARANTEE = (
    "No guarantee: the robust accuracy is an upper bound, and proves nothing, for a stronger attack may break images"
    " that withstood this one."
)


class Attack(Judging):
    """An attack within a ball; its table is a file of records."""

    command = "attack"
    suffix = ".jsonl"

    def read(self, file: Path) -> list[Verdict]:
        return [record for record in records.read(file) if isinstance(record, Verdict)]

    def append(self, lease: RecordLease, file: Path, verdict: Verdict) -> None:
        lease.append(verdict)

    def result(self, verdict: Verdict) -> str:
        return "wrong before" if verdict.skipped else "withstood" if verdict.radius else "broken"

    def summarize(self, verdicts: Sequence[Verdict], fields: dict[str, Any]) -> Summary:
        """Clean accuracy, and robust accuracy under the attack at the threat's radius."""
        correct = [verdict for verdict in verdicts if right(verdict)]
        robust = sum(verdict.radius > 0 for verdict in correct)
        threat = self.evaluation.threat
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

    def lines(self, result: Summary) -> list[tuple[str, str, str]]:
        return [
            ("% clean accuracy", *percentage(result.clean_accuracy)),
            ("% robust accuracy, at most", *percentage(result.robust_accuracy[0])),
            ("images broken", str(result.images_broken), ""),
        ]


def attack_on(name: str, arguments: dict[str, Any], norm: str, eps: str) -> Attack:
    """The attack with its arguments, named in errors by the command's options; `eps` is text such as 8/255.

    ValueError for a wrong name, argument, norm or radius.
    """
    spec, evaluation = _evaluation(name, arguments, _threat(norm, eps))
    ball = {"attack": name, **evaluation.threat.model_dump(include={"norm", "eps"})}
    return Attack(spec, evaluation, ball, f"{norm} eps {eps}")


def _threat(norm: str, eps: str) -> Threat:
    try:
        threat = typed(Threat, {"norm": norm, "eps": eps}, "threat")
    except ValueError as error:
        raise ValueError(str(error).replace("threat.", "--").replace("threat:", f"--eps {eps}:")) from None
    if threat.eps == 0:
        raise ValueError(f"--eps {eps}: an attack needs eps > 0")
    return threat


def _evaluation(name: str, arguments: dict[str, Any], threat: Threat) -> tuple[Spec, Evaluation]:
    kinds = {key: kind for key, kind in plugins("crt.evals").items() if kind.kind == "attack"}
    # An attack that needs a second network is for manifests.
    attacks = {key: kind for key, kind in kinds.items() if "teacher" not in inspect.signature(kind).parameters}
    if name not in attacks:
        raise ValueError(f"--attack {name}: unknown (allowed: {', '.join(sorted(attacks))})")
    for key in ("steps", "restarts", "loss"):
        takers = [attack for attack, kind in attacks.items() if key in inspect.signature(kind).parameters]
        if key in arguments and name not in takers:
            raise ValueError(
                f"--{key} {arguments[key]}: {name} has no such argument (allowed with: {', '.join(takers)})"
            )
    return image_table.evaluation(name, arguments, threat)
