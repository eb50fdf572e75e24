"""Waiting for what has to happen, however long a busy machine takes for it."""

import signal
import time
from collections.abc import Callable

HANG = 1200
"""Seconds after which something hangs: far more than anything here takes, so that nothing fails for being slow."""


def hears_ctrl_c() -> None:
    """Run in a child before its program: a shell's background process ignores ctrl-C, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(happened: Callable[[], object], alive: Callable[[], bool] = lambda: True) -> None:
    """Return when it `happened`; AssertionError where it has not and what it is waited for is not `alive`, or hangs."""
    end = time.monotonic() + HANG
    while not happened():
        # What ended may have done it between the two questions.
        assert alive() or happened(), "it ended before it did what is waited for"
        assert time.monotonic() < end, f"nothing happened in {HANG} s"
        time.sleep(0.01)
