"""The table of a checkpoint's certificates, and its summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from bench.commands import image_table, smoothing_tsv, summary
from bench.commands.image_table import percentage
from bench.commands.judge_checkpoint import Judging
from bench.commands.summary import EstimateAtRadius, Summary
from bench.jobs.lease import RecordLease
from bench.records import Verdict
from bench.results.accuracy import RADIUS_STEP, average_certified_radius, certified_accuracy, share
from bench.results.robustness import radii, right
from crt.threat import Threat

GUARANTEE = (
    "Guarantee: with a probability of 1 - alpha = {probability:.12g} or more for each image, no perturbation smaller in"
    " L2 norm than its certified radius changes the class that the smoothed network gives it."
)
_DRAWN = 201
"""Points of the curve on a page."""


class Certification(Judging):
    """Randomized smoothing; its table has the format of https://github.com/locuslab/smoothing."""

    command = "certify"
    suffix = ".tsv"

    def read(self, file: Path) -> list[Verdict]:
        return [
            Verdict(
                eval=self.spec.id,
                index=row.idx,
                label=row.label,
                prediction=row.predict,
                radius=row.radius,
                skipped=self.spec.args["skip_wrong"] and row.predict not in (row.label, -1),
                seconds=row.time,
            )
            for row in smoothing_tsv.resume(file)
        ]

    def append(self, lease: RecordLease, file: Path, verdict: Verdict) -> None:
        row = smoothing_tsv.Row(
            idx=verdict.index,
            label=verdict.label,
            predict=verdict.prediction,
            radius=verdict.radius,
            time=verdict.seconds,
        )
        with lease.held():
            smoothing_tsv.append(file, row)

    def result(self, verdict: Verdict) -> str:
        return "skipped" if verdict.skipped else f"radius {verdict.radius:.3f}"

    def summarize(self, verdicts: Sequence[Verdict], fields: dict[str, Any]) -> Summary:
        """Certified accuracy, ACR and abstentions."""
        certified, arguments = radii(verdicts), self.spec.args
        abstained = share(verdict.prediction == -1 for verdict in verdicts)
        return Summary(
            command="certify",
            guarantee=GUARANTEE.format(probability=1 - arguments["alpha"]),
            proof=True,
            threat={"norm": "l2", "sigma": self.evaluation.threat.sigma},
            clean_accuracy=summary.share(share(map(right, verdicts))),
            certified_accuracy=tuple(
                summary.share_at(radius, certified_accuracy(certified, radius))
                for radius in np.arange(0, self._largest, RADIUS_STEP)
            ),
            average_certified_radius=summary.mean(average_certified_radius(certified)),
            abstained=None if arguments["skip_wrong"] else summary.share(abstained),
            images_skipped=sum(verdict.skipped for verdict in verdicts),
            **fields,
        )

    def lines(self, result: Summary) -> list[tuple[str, str, str]]:
        acr = result.average_certified_radius
        assert acr is not None
        return [
            *((f"% certified at {at.radius:.2f}", *percentage(at)) for at in result.certified_accuracy),
            ("ACR", f"{acr.estimate:.4f}", "" if acr.low is None else f"[{acr.low:.4f}, {acr.high:.4f}]"),
            ("% abstained", *(percentage(result.abstained) if result.abstained else ("–", ""))),
            ("images skipped", str(result.images_skipped), ""),
        ]

    def curve(self, verdicts: Sequence[Verdict]) -> list[EstimateAtRadius]:
        """Certified accuracy at radii from 0 to the largest possible one; empty if it is 0 or constant."""
        certified = radii(verdicts)
        if not (certified > 0).any():
            return []
        drawn = np.linspace(0, self._largest, _DRAWN)
        return [summary.share_at(r, certified_accuracy(certified, r)) for r in drawn]

    @property
    def _largest(self) -> float:
        """The radius of an image whose class does not change under any draw of noise."""
        arguments = self.spec.args
        return float(self.evaluation.threat.sigma * norm.ppf(arguments["alpha"] ** (1 / arguments["n"])))


def certification(arguments: dict[str, Any], sigma: float) -> Certification:
    """Smoothing with its arguments, named in errors by the command's options; ValueError for a wrong one."""
    if not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma {sigma:g}: smoothing needs sigma > 0")
    spec, evaluation = image_table.evaluation("Smoothing", arguments, Threat(sigma=sigma))
    return Certification(spec, evaluation, {"sigma": sigma}, f"sigma {sigma:g}")
