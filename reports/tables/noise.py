"""The noise floor beside the ratios of a table, and marks of the ratios within it."""

import pandas as pd

from bench.results.noise import within_noise
from reports.render.table_spec import BOTH, Column

NOISE_FLOOR = Column("noise_floor", "noise floor %", "percent", r"noise floor in \%", optional=BOTH)
"""Column of the noise floor of a row's ratios, as a share; nothing shows it where no control was timed."""


def ratio_of_times(key: str, heading: str = "", latex: str | None = None, group: str = "", hide: int = 0) -> Column:
    """Column of a ratio of times, headed by its key by default, for rows from `with_marks`."""
    return Column(key, heading or key, "ratio", latex, group, warnings=f"{key}_marks", hide=hide)


def with_marks(rows: pd.DataFrame, keys: str) -> pd.DataFrame:
    """The rows with a list of marks for each ratio in the columns `keys`; a baseline beside itself has none."""
    for key in keys.split():
        known = rows[f"{key}_low"].notna()
        noise = [within_noise(*pair) for pair in zip(rows[key].where(known), rows["noise_floor"], strict=True)]
        rows = rows.assign(**{f"{key}_marks": [["within the noise floor"] * marked for marked in noise]})
    return rows
