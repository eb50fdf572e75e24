"""Check the further options of sbatch in a profile: allowed names and values."""

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
    "comment": "none, for it identifies an array whose submitter died",
    "dependency": "none, for bench.submit sets the order of waves",
    "clusters": "SLURM_CONF in the environment",
    "test-only": "--dry-run",
    **dict.fromkeys(("parsable", "quiet", "wait", "help", "usage", "version"), _ALONE),
}
"""Options that bench.submit sets itself, with what to use instead."""


def check(options: Iterable[str]) -> None:
    """Raise ValueError for a name that is no long option of sbatch, or an option that bench.submit sets itself."""
    for name in options:
        if not re.fullmatch("[a-z][a-z0-9-]+", name):
            raise ValueError(f"sbatch.{name}: no option of sbatch (allowed: long names as mail-type)")
        # sbatch accepts abbreviated option names.
        if full := next((option for option in sorted(SETTLED, key=len) if option.startswith(name)), None):
            raise ValueError(f"sbatch.{name}: bench.submit decides on {full} (allowed: {SETTLED[full]})")


def option(value: object) -> object:
    """The value of an option as sbatch takes it; True for an option without a value. ValueError for other types."""
    if value is True or (isinstance(value, str) and value and not unfit(value)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    raise ValueError(
        unfit(value) if isinstance(value, str) and value else "(allowed: text, a number, true; a date in quotes)"
    )


def unfit(text: str) -> str:
    """Message on a character that a line of a batch script cannot contain; empty if there is none."""
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "a line break or another control character (allowed: one line of text)"
    return "a backslash, which sbatch drops (allowed: text without)" if "\\" in text else ""
