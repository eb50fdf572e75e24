"""Variance of the log ratio of two times by level: rounds, runs and hosts (Kalibera and Jones 2013).

A ratio varies from round to round within a run, from run to run on a host, and from host to host. The mean over all
rounds has the variance hosts / h + runs / (h r) + rounds / (h r k) for k rounds in each of r runs on each of h hosts.
With the cost of a round and of a run beside its rounds, sqrt(cost of run / cost of round x rounds / runs) rounds in a
run give the smallest variance for the same time.
"""

import math
from collections.abc import Mapping
from statistics import fmean, harmonic_mean, variance
from typing import NamedTuple

from bench.results.measured import Measured


class Components(NamedTuple):
    """Standard deviations of a log ratio by level; NaN where the records do not tell."""

    rounds: float
    runs: float
    """Between runs on one host; with the hosts' where no host has two runs."""
    hosts: float


class Costs(NamedTuple):
    """Mean seconds of a study; NaN where they were not recorded."""

    of_round: float
    """One epoch of every arm."""
    of_run: float
    """A run without its timed rounds: set-up, warm-up and phases, but not the start of the processes."""


def components(logs: Mapping[int, list[float]], hosts: Mapping[int, str]) -> Components:
    """Components from the log ratios of each run, of which `hosts` names the hosts; negative estimates count as 0."""
    several = [values for values in logs.values() if len(values) > 1]
    rounds = fmean(map(variance, several)) if several else math.nan
    means = {run: fmean(values) for run, values in logs.items() if values}
    if len(means) < 2:
        return Components(math.sqrt(rounds), math.nan, math.nan)
    # A run's mean varies by a share of the variance of its rounds, too.
    own = rounds / harmonic_mean([len(logs[run]) for run in means])
    by_host: dict[str, list[float]] = {}
    for run, mean in means.items():
        by_host.setdefault(hosts.get(run, ""), []).append(mean)
    freedom = sum(len(values) - 1 for values in by_host.values())
    if len(by_host) == 1 or not freedom:
        return Components(math.sqrt(rounds), _root(variance(means.values()) - own), math.nan)
    within = sum((value - fmean(values)) ** 2 for values in by_host.values() for value in values) / freedom
    between = variance([fmean(values) for values in by_host.values()])
    own_of_host = within / harmonic_mean([len(values) for values in by_host.values()])
    return Components(math.sqrt(rounds), _root(within - own), _root(between - own_of_host))


def costs(arms: list[Measured]) -> Costs:
    """Seconds of a round and of a run of a study, from the records of all its arms."""
    rounds, rests = [], []
    for run, span in arms[0].spans.items():
        seconds = [epoch.seconds for m in arms for epoch in m.runs.get(run, {}).values()]
        turns = max((len(m.runs.get(run, {})) for m in arms), default=0)
        if turns:
            rounds.append(sum(seconds) / turns)
            rests.append(span - sum(seconds))
    return Costs(fmean(rounds), max(fmean(rests), 0.0)) if rounds else Costs(math.nan, math.nan)


def best_rounds(found: Components, cost: Costs) -> float:
    """Number of rounds in a run that gives the narrowest interval for the same time; inf where runs do not differ."""
    if math.isnan(found.rounds + found.runs + cost.of_round + cost.of_run):
        return math.nan
    if found.runs == 0:
        return math.inf
    return max(1.0, math.sqrt(cost.of_run / cost.of_round) * found.rounds / found.runs)


def _root(value: float) -> float:
    return math.sqrt(max(value, 0.0))
