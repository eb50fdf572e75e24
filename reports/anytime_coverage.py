"""Simulated guarantee and cost of certificates that end their draws early (crt/sequential.py)."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from rich.progress import track
from scipy.special import betainc
from scipy.stats import beta, binom, norm

from bench.results.statistics import CONFIDENCE
from crt.sequential import RULES, Bools, Decision, Mixture, Sequence

SEED = 29
ALPHAS = (0.05, 0.01, 0.001)
RATIOS = (0.0, 1.0, 2.0, 3.0)
"""Radii relative to sigma: those of CRT's tables at sigma 0.25."""
OFFSETS = (0.0, 0.01)
"""Distances of the true probability below a threshold q, relative to 1 - q."""
MOST, ALL_DRAWS, IMAGES = 10_000, 100_000, 20_000
CURVES = {
    "SmoothMix": (0.771, 0.679, 0.579, 0.467),
    "Gaussian": (0.748, 0.600, 0.428, 0.266),
}
"""Certified accuracies of ResNet110 on CIFAR-10, sigma 0.25, at RATIOS, from the public logs of their authors."""
FARTHEST = 5.5
"""Largest radius relative to sigma of a simulated image."""


class Naive(Mixture):
    """Clopper and Pearson's bound at the full alpha at every look, which is not valid."""

    def proves(self, hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> Bools:
        hits = np.asarray(hits)
        return np.asarray((hits > 0) & (betainc(np.maximum(hits, 1), np.asarray(drawn) - hits + 1, q) <= self.alpha))


class Case(NamedTuple):
    """A rule, and a true probability below the threshold that it must not prove."""

    rule: str
    sequence: type[Sequence]
    alpha: float
    ratio: float
    offset: float


def publish(replicates: int, out: Path) -> None:
    """Simulate 2.5 `replicates` studies, and 10 times as many at the smallest alpha; write anytime.md and two CSVs."""
    studies = max(5 * replicates // 2, 1)
    rules: dict[str, type[Sequence]] = {**dict(RULES.items()), "naive": Naive}
    cases = [
        Case(rule, kind, alpha, ratio, offset)
        for (rule, kind), alpha, ratio, offset in product(rules.items(), ALPHAS, RATIOS, OFFSETS)
    ]
    wrong = pd.DataFrame([_wrong(case, studies) for case in track(cases, "Simulating optional stopping")])
    costs = pd.DataFrame([row for name in CURVES for row in _costs(name)])
    out.mkdir(parents=True, exist_ok=True)
    wrong.to_csv(out / "anytime-guarantee.csv", index=False, float_format="%.5g")
    costs.to_csv(out / "anytime-draws.csv", index=False, float_format="%.5g")
    (out / "anytime.md").write_text(_page(wrong, costs, replicates), encoding="utf-8")


def wrongly_proved(sequence: Sequence, q: float, p: float, studies: int, rng: np.random.Generator) -> int:
    """Number of studies of true probability `p` that prove `q` at any look: nothing but a proof ends their draws."""
    hits, drawn, found = np.zeros(studies, int), 0, 0
    for look in sequence.looks:
        hits, drawn = hits + rng.binomial(look - drawn, p, len(hits)), look
        # There are fewer counts of hits than studies.
        proved = sequence.proves(np.arange(look + 1), look, q)[hits]
        found += int(proved.sum())
        hits = hits[~proved]
    return found


def _wrong(case: Case, studies: int) -> dict[str, object]:
    rng = np.random.default_rng([SEED, ALPHAS.index(case.alpha), RATIOS.index(case.ratio), OFFSETS.index(case.offset)])
    studies *= 10 if case.alpha == min(ALPHAS) else 1
    q = float(norm.cdf(case.ratio))
    p = float(np.nextafter(q - case.offset * (1 - q), 0))
    count = wrongly_proved(case.sequence(case.alpha, MOST), q, p, studies, rng)
    tail = (1 - CONFIDENCE) / 2
    return {
        "rule": case.rule,
        "alpha": case.alpha,
        "radius_over_sigma": case.ratio,
        "offset": case.offset,
        "p": p,
        "studies": studies,
        "wrong": count / studies,
        "wrong_low": float(beta.ppf(tail, count, studies - count + 1)) if count else 0.0,
        "wrong_high": float(beta.ppf(1 - tail, count + 1, studies - count)) if count < studies else 1.0,
    }


def probabilities(name: str, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of the class (IMAGES,) of images with a true radius above 0, whose radii follow a curve."""
    shares, ratios = (*CURVES[name], 0.0), (*RATIOS, FARTHEST)
    return np.asarray(norm.cdf(np.interp(rng.random(IMAGES) * shares[0], shares[::-1], ratios[::-1])))


def _costs(name: str) -> Iterator[dict[str, object]]:
    """Draws and certified accuracies of each rule, and of all draws, on the same images."""
    rng = np.random.default_rng([SEED, len(ALPHAS), list(CURVES).index(name)])
    p, q, alpha = probabilities(name, rng), norm.cdf(RATIOS), min(ALPHAS)
    share = 100 * CURVES[name][0]
    fixed = binom.sf(rng.binomial(ALL_DRAWS, p)[:, None] - 1, ALL_DRAWS, q) <= alpha
    yield {"curve": name, "rule": "fixed n", "draws": float(ALL_DRAWS)} | _shares(share * fixed.mean(0))
    for rule, kind in RULES.items():
        decision = Decision(kind(alpha, ALL_DRAWS), q, (IMAGES,))
        hits, drawn, taken = np.zeros(IMAGES, int), 0, np.zeros(IMAGES, int)
        for look in decision.sequence.looks:
            going = ~decision.done
            hits[going] += rng.binomial(look - drawn, p[going])
            taken[going] = drawn = look
            decision.look(hits, look)
        yield {"curve": name, "rule": rule, "draws": float(taken.mean())} | _shares(share * decision.proved.mean(0))


def _shares(percent: np.ndarray) -> dict[str, object]:
    return {f"certified_at_{ratio:g}_sigma": float(value) for ratio, value in zip(RATIOS, percent, strict=True)}


def _page(wrong: pd.DataFrame, costs: pd.DataFrame, replicates: int) -> str:
    valid = wrong[wrong["rule"] != "naive"]
    worst = wrong[wrong["rule"] == "naive"].groupby("alpha")["wrong"].max()
    return _PAGE.format(
        guarantee=_guarantee(wrong),
        costs=_draws(costs),
        most=MOST,
        all_draws=ALL_DRAWS,
        images=IMAGES,
        farthest=FARTHEST,
        seed=SEED,
        replicates=replicates,
        exceed=int((valid["wrong_low"] > valid["alpha"]).sum()),
        cases=len(valid),
        naive=", ".join(f"{100 * share:.2g} % at alpha {alpha:g}" for alpha, share in worst.items()),
    )


def _guarantee(wrong: pd.DataFrame) -> str:
    heads = ["rule", "alpha, %", "p", *(f"r = {ratio:g} sigma" for ratio in RATIOS)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for (rule, alpha, offset), rows in wrong.groupby(["rule", "alpha", "offset"], sort=False):
        cells = [f"{100 * r.wrong:.3g} [{100 * r.wrong_low:.3g}, {100 * r.wrong_high:.3g}]" for r in rows.itertuples()]
        cells = [
            f"**{cell}**" if row.wrong_low > alpha else cell for cell, row in zip(cells, rows.itertuples(), strict=True)
        ]
        lines.append(
            " | ".join([str(rule), f"{100 * alpha:g}", f"{100 * offset:g} % below" if offset else "just below", *cells])
        )
    return "\n".join(f"| {line} |" for line in lines)


def _draws(costs: pd.DataFrame) -> str:
    heads = ["network", "rule", "draws per image", "fewer", *(f"r = {ratio:g} sigma" for ratio in RATIOS)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for name, rows in costs.groupby("curve", sort=False):
        for _, row in rows.iterrows():
            shares = [f"{row[f'certified_at_{ratio:g}_sigma']:.2f}" for ratio in RATIOS]
            fewer = f"{ALL_DRAWS / row['draws']:.1f} times"
            lines.append(" | ".join([str(name), row["rule"], f"{row['draws']:,.0f}", fewer, *shares]))
    return "\n".join(f"| {line} |" for line in lines)


_PAGE = """# Do certificates that end their draws early keep their guarantee?

`Smoothing: {{radii: [...], until: decided}}` looks at an image's draws again and again, and ends them once each radius
is certified or hopeless. Both rules of `crt/sequential.py` promise that a radius above the true one is certified with a
probability of at most alpha, whatever ends the draws. This page tests the promise on simulated draws of known
probability, beside a naive rule: the bound of Clopper and Pearson at the full alpha at every look.

## The guarantee

The threshold of radius r is q = Phi(r / sigma). The true probability p of the class is the largest number below q, or
below q by 1 % of 1 - q. Draws go on, up to {most:,}, until q is proved: no futility ends them, so that every look has
its chance to be wrong. The table has the share of studies that prove q in %, with its 95 % interval of Clopper and
Pearson; bold where the whole interval is above alpha. With the default number of replicates, 10,000 studies give each
number, and 100,000 at alpha 0.1 %; [anytime-guarantee.csv](anytime-guarantee.csv) has every number.

{guarantee}

## Draws and certified accuracy

{images:,} images have true radii that follow the certified accuracies of ResNet110 on CIFAR-10 at sigma 0.25 in the
authors' public logs, and beyond 3 sigma lie evenly up to {farthest:g} sigma. They are images with a true radius above
0: the others mostly end after their first draws. Alpha is 0.1 %, the largest number of draws {all_draws:,}. Certified
accuracy is in % of all images; [anytime-draws.csv](anytime-draws.csv) has every number.

{costs}

## Conclusions

- Of the {cases} cases of the two rules, {exceed} have an interval that lies above alpha. The naive rule certifies
  wrongly in as many as {naive}.
- Alpha spending, the default, loses the least certified accuracy, because half of alpha is kept for the last look. The
  mixture sequence needs the fewest draws, and loses most where a radius needs nearly all draws.
- The gain is in the draws of images far from a threshold. An image near one takes all draws under either rule.

## How to reproduce it

`python -m reports.coverage --replicates {replicates}`, seed {seed}. It writes this page and its CSV files beside the
others.
"""
