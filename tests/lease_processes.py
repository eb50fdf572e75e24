"""Processes that compete for leases; a module of its own, which they import in no time."""

import os
from pathlib import Path

from bench.jobs.record_lease import RecordLease, SupersededError
from bench.records import End

EXPIRY = 3.0
"""Expiry in seconds where processes compete: a busy machine must not keep the winner from renewing for as long."""


def hold(file: Path, orders, answers) -> None:
    """Take the lease; then, at each order, append a record, and answer with what came of it."""
    try:
        lease = RecordLease(file)
    except ValueError as error:
        answers.put(str(error))
        return
    answers.put("holds")
    for order in iter(orders.get, "end"):
        try:
            lease.append(End(time=order))
        except SupersededError:
            answers.put("superseded")
            return
        answers.put("written")
    lease.release()


def compete(file: Path, start, answers, end) -> None:
    """Take the lease together with others, answer with what came of it, and hold it until the end."""
    start.wait()
    try:
        lease = RecordLease(file, EXPIRY)
    except ValueError as error:
        answers.put("at work" in str(error))
        return
    lease.append(End(time=float(os.getpid())))
    answers.put(None)
    end.wait()
