"""Options of sbatch that a profile has no key for: which it may give, and what their values may be."""

import math
import re
import unicodedata
from collections.abc import Iterable

_OWN = ("partition", "account", "qos", "constraint", "reservation", "nodelist", "exclude", "gres", "time", "mem")
_GPUS = "the profile's gpus_per_rank or gres"
_ALONE = "none, for bench.submit reads what sbatch prints and does not wait"
SETTLED = {
    **{name: f"the profile's {name}" for name in (*_OWN, "exclusive")},
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"), _GPUS),
    "cpus-per-task": "the profile's cpus_per_task",
    "tres-per-task": "the profile's cpus_per_task and gres",
    "signal": "the profile's signal_delay_s",
    "array": "the profile's array_parallelism and max_array",
    **dict.fromkeys(("requeue", "no-requeue"), "the profile's max_timeouts"),
    "wrap": "the profile's setup",
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node"), "ranks and nodes of a manifest's cell"),
    "job-name": "a manifest of another name",
    **dict.fromkeys(("output", "error", "open-mode"), "--runs, where the logs are kept"),
    "comment": "none, for by it an array is known again whose submitter died",
    "dependency": "none, for waves wait for one another",
    "clusters": "SLURM_CONF in the environment",
    "test-only": "--dry-run",
    **dict.fromkeys(("parsable", "quiet", "wait", "help", "usage", "version"), _ALONE),
}
"""Options that bench.submit decides on, and what is allowed instead."""


def check(options: Iterable[str]) -> None:
    """ValueError for a name that is no long option of sbatch, or that of one which bench.submit decides on."""
    for name in options:
        if not re.fullmatch("[a-z][a-z0-9-]+", name):
            raise ValueError(f"sbatch.{name}: no option of sbatch (allowed: long names as mail-type)")
        # sbatch takes the beginning of an option's name for the option.
        if settled := next((one for one in sorted(SETTLED, key=len) if one.startswith(name)), None):
            raise ValueError(f"sbatch.{name}: bench.submit decides on {settled} (allowed: {SETTLED[settled]})")


def option(value: object) -> object:
    """The value of an option as sbatch is given it: True for one that takes none. ValueError for anything else."""
    if value is True or (isinstance(value, str) and value and not unfit(value)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    raise ValueError(
        unfit(value) if isinstance(value, str) and value else "(allowed: text, a number, true; a date in quotes)"
    )


def unfit(text: str) -> str:
    """The part of a text that a line of a batch script cannot hold; empty where it can hold all."""
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "a line break or another control character (allowed: one line of text)"
    return "a backslash, which sbatch drops (allowed: text without)" if "\\" in text else ""
