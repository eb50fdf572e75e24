"""A limit to the time of work in the main thread that cannot be asked to stop, such as compilation."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimitError(BaseException):
    """Raised in the midst of work that exceeds its limit; no handler of ordinary errors catches it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitError in the block after `seconds`, and every second until it ends.

    The alarm of an outer limit goes off at its time, or right after the block. Outside the main thread, where Python
    handles no signals, nothing is begun: TimeLimitError at once.
    """
    if threading.current_thread() is not threading.main_thread():
        raise TimeLimitError
    active, began = True, time.monotonic()

    def stop(*_: object) -> None:
        # Code that swallows the error, such as a finalizer, is stopped by the next.
        if active:
            raise TimeLimitError

    outer, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, outer - (time.monotonic() - began)), interval)
