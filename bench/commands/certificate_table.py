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
from bench.results.accuracy import RADIUS_STEP, average_certified_radius, certified_accuracy, radius_text, share
from bench.results.robustness import draws, grid, radii, right
from crt.threat import Threat

GUARANTEE = (
    "Guarantee: with a probability of 1 - alpha = {probability:.12g} or more for each image, no perturbation smaller in"
    " L2 norm than its certified radius changes the class that the smoothed network gives it."
)
ANYTIME = (
    "Guarantee: with a probability of 1 - alpha = {probability:.12g} or more for each image, whenever its draws end, no"
    " perturbation smaller in L2 norm than its certified radius, one of {radii}, changes the class that the smoothed"
    " network gives it. A radius that is not certified is not refuted; there is no average certified radius (ACR)."
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
                details=row.draws or {},
            )
            for row in smoothing_tsv.resume(file, grid(self.spec) is not None)
        ]

    def append(self, lease: RecordLease, file: Path, verdict: Verdict) -> None:
        row = smoothing_tsv.Row(
            idx=verdict.index,
            label=verdict.label,
            predict=verdict.prediction,
            radius=verdict.radius,
            time=verdict.seconds,
            draws={"drawn": 0, "nA": 0, "pA_low": 0.0} | verdict.details if grid(self.spec) else None,
        )
        with lease.held():
            smoothing_tsv.append(file, row)

    def result(self, verdict: Verdict) -> str:
        return "skipped" if verdict.skipped else f"radius {verdict.radius:.3f}"

    def summarize(self, verdicts: Sequence[Verdict], fields: dict[str, Any]) -> Summary:
        """Certified accuracy, ACR and abstentions; with a grid of radii the draws, and no ACR."""
        certified, arguments, decided = radii(verdicts), self.spec.args, grid(self.spec)
        acr = None if decided else summary.mean(average_certified_radius(certified))
        guarantee = GUARANTEE if decided is None else ANYTIME
        abstained = share(verdict.prediction == -1 for verdict in verdicts)
        return Summary(
            command="certify",
            guarantee=guarantee.format(
                probability=1 - arguments["alpha"], radii=", ".join(f"{r:g}" for r in decided or ())
            ),
            proof=True,
            threat={"norm": "l2", "sigma": self.evaluation.threat.sigma},
            clean_accuracy=summary.share(share(map(right, verdicts))),
            certified_accuracy=tuple(
                summary.share_at(radius, certified_accuracy(certified, radius))
                for radius in decided or np.arange(0, self._largest, RADIUS_STEP)
            ),
            average_certified_radius=acr,
            draws_per_image=draws(self.spec, verdicts) if decided else None,
            abstained=None if arguments["skip_wrong"] else summary.share(abstained),
            images_skipped=sum(verdict.skipped for verdict in verdicts),
            **fields,
        )

    def lines(self, result: Summary) -> list[tuple[str, str, str]]:
        acr, drawn = result.average_certified_radius, result.draws_per_image
        last = ("draws per image", "" if drawn is None else f"{drawn:,.0f}", "")
        if acr:
            last = ("ACR", f"{acr.estimate:.4f}", "" if acr.low is None else f"[{acr.low:.4f}, {acr.high:.4f}]")
        return [
            *((f"% certified at {radius_text(at.radius)}", *percentage(at)) for at in result.certified_accuracy),
            last,
            ("% abstained", *(percentage(result.abstained) if result.abstained else ("–", ""))),
            ("images skipped", str(result.images_skipped), ""),
        ]

    def curve(self, verdicts: Sequence[Verdict]) -> list[EstimateAtRadius]:
        """Certified accuracy at radii from 0 to the largest; empty if it is 0 or constant, or for a grid."""
        certified = radii(verdicts)
        if grid(self.spec) or not (certified > 0).any():
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
    if evaluation.out_of_reach:
        words = ", ".join(f"{radius:g}" for radius in evaluation.out_of_reach)
        raise ValueError(f"--radii: {words}: no number of hits in --n {arguments['n']} draws certifies it")
    return Certification(spec, evaluation, {"sigma": sigma}, f"sigma {sigma:g}")
