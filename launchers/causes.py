"""Words for Slurm's states and reasons: the state of a job, its cause and the remedy."""

import re

_STATES = {
    "PENDING": ("waiting", ""),
    "REQUEUED": ("waiting", "requeued"),
    "REQUEUE_FED": ("waiting", "requeued to another cluster"),
    "REQUEUE_HOLD": ("held", "held after a requeue"),
    "SPECIAL_EXIT": ("held", "held by the site after a requeue"),
    "RESV_DEL_HOLD": ("held", "its reservation is gone"),
    "CONFIGURING": ("running", "its nodes start"),
    "RUNNING": ("running", ""),
    "COMPLETING": ("running", "ends"),
    "STAGE_OUT": ("running", "ends"),
    "SIGNALING": ("running", "was told to stop"),
    "RESIZING": ("running", ""),
    "SUSPENDED": ("running", "suspended"),
    "STOPPED": ("running", "stopped"),
    "COMPLETED": ("ended", ""),
    "FAILED": ("failed", "ended with an error"),
    "TIMEOUT": ("failed", "out of time (a longer time: in the profile; it goes on from its last epoch)"),
    "OUT_OF_MEMORY": ("failed", "out of memory (more mem: in the profile)"),
    "NODE_FAIL": ("failed", "its node failed (submit again: it goes on from its last epoch)"),
    "BOOT_FAIL": ("failed", "its node did not start (submit again; exclude: in the profile avoids a node)"),
    "LAUNCH_FAILED": ("failed", "its node could not start it (submit again; exclude: in the profile avoids a node)"),
    "RECONFIG_FAIL": ("failed", "its node could not be set up (submit again; exclude: in the profile avoids a node)"),
    "DEADLINE": ("failed", "past its deadline (a later one under sbatch: in the profile)"),
    "CANCELLED": ("failed", "cancelled{by} (submit again)"),
    "PREEMPTED": ("failed", "preempted and not requeued (submit again: it goes on from its last epoch)"),
    "REVOKED": ("failed", "taken by another cluster (submit again)"),
}
"""State and explanation by Slurm's name of a state."""
_HOLDS = (
    ("JobHeldUser", "held by a user"),
    ("JobHeldAdmin", "held by an administrator"),
    ("launch failed", "its node could not start it"),
    ("JobHoldMaxRequeue", "requeued too often"),
    ("hold|held|special exit", "held"),
)
"""Explanation by pattern of the reason for which Slurm holds a job until somebody releases it; the first one counts."""
_AGAIN = "cancel, change the profile and submit again"
_WAITS = (
    ("DependencyNeverSatisfied", "never starts (cancel and submit again)"),
    ("MaxWallDuration|PartitionTimeLimit", f"time: is longer than is allowed ({_AGAIN})"),
    (
        "BadConstraints|PartitionNodeLimit|NodeLimit|MaxCpuPerNode|Max(CPU|GRES|Mem|Node|TRES)Per",
        f"too much ({_AGAIN})",
    ),
    ("InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed", f"account: or qos: is refused ({_AGAIN})"),
    ("PartitionDown|PartitionInactive", "the partition starts no jobs now"),
    ("MaxJobs|JobArrayTaskLimit", "starts when other jobs of yours end"),
    ("BeginTime", "requeued, starts soon"),
)
"""Explanation by pattern of the reason for which a job waits; the first one counts."""


def cause(job: str, word: str, slurm_reason: str = "") -> tuple[str, str]:
    """State (waiting, held, running, ended or failed) and cause of a job, from Slurm's words for them.

    `word` may name who cancelled it (`CANCELLED by 1000`). An unknown word counts as running, so that no job is
    submitted twice.
    """
    word, _, by = word.partition(" ")
    state, explanation = _STATES.get(word, ("running", word))
    explanation = explanation.format(by=f" {by}" if by else "")
    if state == "failed":
        return state, f"{word}: {explanation}"
    if state not in ("waiting", "held"):
        # Slurm keeps the last reason for waiting of a job that runs, so it is shown for waiting jobs only.
        return state, explanation
    hold = _first(_HOLDS, slurm_reason)
    if state == "held" or hold:
        # An array's id releases all its jobs that are held.
        release = f"scontrol release {job.split('_')[0]}, or cancel and submit again"
        return "held", f"{_both(slurm_reason if hold else word, hold or explanation)} ({release})"
    return state, explanation or _both(slurm_reason, _first(_WAITS, slurm_reason))


def _first(table: tuple[tuple[str, str], ...], reason: str) -> str:
    return next((words for pattern, words in table if re.search(pattern, reason)), "")


def _both(reason: str, explanation: str) -> str:
    return f"{reason}: {explanation}" if explanation and explanation != reason else reason
