"""Checks of attacks: accuracies under several budgets and radii show an attack that is too weak or fooled."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, written
from bench.manifest.plugin_spec import evaluation
from bench.results.collapse import collapse
from bench.results.columns import Source, columns, named
from bench.results.measured import Measured
from bench.results.robustness import at_eps, eps_of, is_robust, kind, right
from bench.results.statistics import NOTHING
from reports.render.table_spec import INTERVALS, Column, TableSpec, network, with_labels

_NAMES = (
    "dataset,arch,method,norm,eps,weakest,at_weakest,at_weakest_low,at_weakest_high,strongest,at_strongest,"
    "at_strongest_low,at_strongest_high,largest_eps,at_largest,at_largest_low,at_largest_high,only_weaker,verdict"
)
_GREY = 0.5
"""Radius of the linf ball in which every image can become the same grey image, so that no network tells them apart."""


class _Attack(NamedTuple):
    """One of a cell's attacks, with the radius of its ball and its budget per image."""

    spec: Spec
    eps: float
    budget: tuple[int, int]
    """See `Evaluation.budget`."""


def masking(measured: list[Measured]) -> pd.DataFrame:
    """A row per cell with several attacks: more steps and restarts, and larger balls, should break more images.

    "weak attack": at one eps, the accuracy under the largest budget is below the interval of that under the smallest.
    "masked gradients?": some image is robust in a ball that contains a grey image. `only_weaker` counts images that an
    attack broke and another, with at least its ball and budget, did not. A collapsed training shows nothing of attacks.
    """
    rows, names = [], Names(m.cell for m in measured if m.cell.evals)
    for m in measured:
        attacks = [
            _attack(m.cell, spec) for spec in m.cell.evals if kind(spec.name) == "attack" and m.verdicts.get(spec.id)
        ]
        if len(attacks) > 1:
            rows.append(_row(m, attacks, names))
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _attack(cell: Cell, spec: Spec) -> _Attack:
    return _Attack(spec, eps_of(cell, spec), evaluation(spec, cell.threat).budget)


def _row(m: Measured, attacks: list[_Attack], names: Names) -> dict:
    cell = m.cell
    row: dict[str, Any] = {"dataset": cell.dataset, "arch": cell.arch, "method": names.full_label(cell)}
    row |= {
        "norm": cell.threat.norm,
        "folder": str(m.folder),
        "only_weaker": _only_weaker(m, attacks),
        "source": Source(m),
    }
    findings, weak, strong = [], NOTHING, NOTHING
    if several := _at_one_eps(cell, attacks):
        weakest, strongest = several[0], several[-1]
        weak, strong = at_eps(m, weakest.spec), at_eps(m, strongest.spec)
        row |= {"eps": weakest.eps, "weakest": weakest.spec.label, "strongest": strongest.spec.label}
        if strong.mean < weak.low:
            findings.append("weak attack")
    largest = max(attacks, key=lambda attack: (attack.eps, attack.budget))
    row |= named("at_weakest", weak) | named("at_strongest", strong)
    if largest.eps > min(attack.eps for attack in attacks):
        row |= {"largest_eps": largest.eps} | named("at_largest", at_eps(m, largest.spec))
        if largest.eps >= _grey_eps(cell) and row["at_largest"] > 0:
            findings.append("masked gradients?")
    if found := collapse(m):
        findings.append(f"collapsed: {found.rule}")
    return row | {"verdict": ", ".join(findings) or "ok"}


def _at_one_eps(cell: Cell, attacks: list[_Attack]) -> list[_Attack]:
    """The attacks at the eps nearest to the threat's, of those that several attacks share; the weakest first."""
    counts = Counter(attack.eps for attack in attacks)
    shared = [eps for eps, count in counts.items() if count > 1]
    nearest = min(shared, key=lambda eps: abs(eps - cell.threat.eps), default=None)
    return sorted((attack for attack in attacks if attack.eps == nearest), key=lambda attack: attack.budget)


def _grey_eps(cell: Cell) -> float:
    """The smallest eps for which the ball around any image contains the grey image."""
    return _GREY * (1 if cell.threat.norm == "linf" else math.sqrt(math.prod(cell.data.shape)))


def _only_weaker(m: Measured, attacks: list[_Attack]) -> int:
    """Number of images broken by an attack, and robust under another with at least its ball and budget."""
    images: set[int] = set()
    for weaker, stronger in permutations(attacks, 2):
        if weaker.eps <= stronger.eps and weaker.budget <= stronger.budget and weaker[1:] != stronger[1:]:
            weak, strong = (m.verdicts[attack.spec.id] for attack in (weaker, stronger))
            broken = {image for image, v in weak.items() if right(v) and not is_robust(v, weaker.eps)}
            images |= {image for image in broken & strong.keys() if is_robust(strong[image], stronger.eps)}
    return len(images)


def masking_table(masking: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the accuracies under the weakest and the strongest attack, and in the largest ball."""
    largest = masking["largest_eps"].map(written, na_action="ignore")
    rows = with_labels(masking).assign(largest=largest)
    columns = [*network(rows, width=17), Column("ball", "eps", "label", r"$\varepsilon$", optional="text", width=5)]
    for key, heading, latex, form in (
        ("weakest", "weakest", None, "name"),
        ("strongest", "strongest", None, "name"),
        ("largest", "largest eps", r"largest $\varepsilon$", "label"),
    ):
        columns.append(Column(key, heading, form, latex, optional="text", width=17))
        columns.append(Column(f"at_{key}", f"accuracy, {key}", "percent", "accuracy", optional="text"))
    columns.append(Column("only_weaker", "broken only by a weaker attack", "count", "odd"))
    columns.append(Column("verdict", "verdict", "name", width=10))
    odd = "Odd: number of images that a weaker attack broke and a stronger one did not."
    notes = [r"Accuracy at $\varepsilon$ in \%.", INTERVALS, odd]
    yield TableSpec("Do the attacks work? (accuracy at eps in %)", "do the attacks work?", columns, rows, notes)
