"""The work that runs on a node: training, evaluation, timing, and preparation of their data."""

from crt.lazy import lazily

_NAMES = ("run_cell", "run_judge", "run_prepare", "run_robustify", "run_study")
"""Functions that jobs of an earlier version call by these names."""

__getattr__ = lazily(__name__, **dict.fromkeys(_NAMES, "bench.jobs.former_jobs"))
