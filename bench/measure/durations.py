"""Durations as text: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`, `1,240 GPU-hours`."""

MINUTE, HOUR, DAY = 60, 3600, 86400
_LEAST = 1e-3


def duration(seconds: float) -> str:
    """Text of a duration: two units from a minute on, ms below a tenth of a second, and never 0."""
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} seconds are no duration (allowed: 0 or more)")
    # The unit is chosen after rounding, so that neither 60 s nor 60 min appears.
    if seconds < _LEAST:
        return "under 1 ms"
    if round(seconds, 1) < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if (minutes := round(seconds / MINUTE)) < 2 * DAY / MINUTE:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / HOUR)
    return f"{hours // 24:,d} d {hours % 24:02d} h"


def summed(seconds: float, whose: str) -> str:
    """Text of a sum over ranks, such as `1,240 GPU-hours` for `whose` = GPU; in the largest unit of at least 1."""
    for unit, size in (("hours", HOUR), ("minutes", MINUTE), ("seconds", 1)):
        amount = round(seconds / size, 1)
        if amount >= 1:
            return f"{amount:,.0f} {whose}-{unit}" if amount >= 100 else f"{amount:.1f} {whose}-{unit}"
    return f"under 1 {whose}-second"
