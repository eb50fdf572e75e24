"""The tables of what was judged, as LaTeX sets them."""

import re
from collections.abc import Iterator

import pandas as pd

from bench.names import written
from reports.booktabs import Column, fixed, fold, number, percent, text
from reports.verdicts import has_eps, kind

INTERVAL = r"In brackets, 95\,\% intervals."
_RADII = 8
"""Radii side by side that a page holds."""
_NARROW, _PAIR = 17, 18
"""Characters of a name where a table has several."""
_EPS = r"$\varepsilon$"


def judged(frame: pd.DataFrame) -> Iterator[tuple[str, list[Column]]]:
    """Caption and columns: of every evaluation, and of certificates by smoothing."""
    if frame.empty:
        return
    yield rf"judged. Shares in \%. {INTERVAL}", _judged(frame)
    smoothing = frame[frame["judge"].map(kind).eq("smoothing")]
    certified = r"certified accuracy in \% at $\ell_2$ radius $r$"
    for caption, prefix, form in (
        (f"{certified}. {INTERVAL}", "", percent(1)),
        (f"{certified}, as published.", "paper_", percent(2)),
    ):
        names = [c for c in frame if re.fullmatch(rf"{prefix}certified_at_[\d.]+", c)]
        if not names or not smoothing[[f"{prefix}acr", *names]].notna().any(axis=None):
            continue
        for first in range(0, len(names), _RADII):
            radii = names[first : first + _RADII]
            columns = [number(smoothing, name, name.split("_")[-1], form, "$r$", percent(0)) for name in radii]
            yield caption, [*who(smoothing), number(smoothing, f"{prefix}acr", "ACR", fixed(3)), *columns]


def _judged(frame: pd.DataFrame) -> list[Column]:
    return [
        *who(frame),
        text("evaluation", frame["eval"]),
        text("epochs", frame["epochs"]),
        number(frame, "images", "images", fixed(0)),
        *(number(frame, key, key, form) for key, form in _ASKED.items() if frame[key].notna().any()),
        *(number(frame, name, name, percent(1), "accuracy") for name in ("clean", "noisy") if name in frame),
        *(_at_eps(frame) if "at_eps" in frame else []),
    ]


_ASKED = {"skipped": fixed(0), "abstained": percent(1)}


def _at_eps(frame: pd.DataFrame) -> list[Column]:
    other = ~frame["judge"].map(has_eps)
    columns = [number(frame, "at_eps", f"at {_EPS}", percent(1), "accuracy"), text(_EPS, _balls(frame, other))]
    if "acr" in frame and frame["acr"].where(frame["judge"].map(kind).ne("smoothing")).notna().any():
        columns.append(number(frame, "acr", "ACR", fixed(3)))
    for key, head in (("paper_clean", "clean"), ("paper_at_eps", f"at {_EPS}")):
        if frame[key].notna().any():
            columns.append(number(frame, key, head, percent(2), "published"))
    return columns


def _apart(frame: pd.DataFrame) -> bool:
    """Whether networks were trained for unlike balls."""
    return "trained_eps" in frame and bool((frame[["norm", "trained_eps"]].nunique() > 1).any())


def _trained_for(frame: pd.DataFrame) -> pd.Series:
    return frame["norm"] + " " + frame["trained_eps"].map(written)


def _balls(frame: pd.DataFrame, without: pd.Series | None = None) -> pd.Series:
    """Norm and eps of each row but those without."""
    balls = frame["norm"] + " " + frame["eps"].map(written, na_action="ignore")
    return balls if without is None else balls.mask(without)


def masked(frame: pd.DataFrame) -> list[Column]:
    columns = [*who(frame, _NARROW), text(_EPS, _balls(frame), 5)]
    for key in ("weakest", "strongest"):
        columns += [text(key, frame[key], _NARROW), number(frame, f"at_{key}", "accuracy", percent(1))]
    return [
        *columns,
        text(f"largest {_EPS}", frame["largest_eps"].map(written, na_action="ignore")),
        number(frame, "at_largest", "accuracy", percent(1)),
        number(frame, "only_weaker", "odd", fixed(0)),
        text("verdict", frame["verdict"], 10),
    ]


def compared(frame: pd.DataFrame) -> list[Column]:
    """Of each two networks, one minus the other."""
    differences = [number(frame, "accuracy_difference", "accuracy", percent(1), "one $-$ other")]
    if frame["acr_difference"].notna().any():
        differences.append(number(frame, "acr_difference", "ACR", fixed(3), "one $-$ other"))
    return [
        text("one", frame["one"], _PAIR),
        text("other", frame["other"], _PAIR),
        number(frame, "images", "images", fixed(0)),
        text("accuracy at", frame["at"]),
        *([text("evaluation", frame["eval"], _NARROW)] if frame["at"].ne("radius 0").any() else []),
        *differences,
        number(frame, "mcnemar_p", "McNemar's $p$", fixed(3)),
    ]


def who(frame: pd.DataFrame, width: int = 26) -> list[Column]:
    """What tells the rows apart; noise and ranks only where they differ."""
    methods = text("method", frame["method"], width)
    if "teacher" in frame:
        for cell, teacher in zip(methods.cells, frame["teacher"], strict=True):
            cell += fold(f"from {teacher}", width) if isinstance(teacher, str) else []
    return [
        *(text(name, frame[name]) for name in ("dataset", "loader") if name in frame and frame[name].nunique() > 1),
        text("architecture", frame["arch"]),
        methods,
        *([text("trained for", _trained_for(frame))] if _apart(frame) else []),
        *(
            number(frame, name, head, "{:g}".format)
            for name, head in (("sigma", r"$\sigma$"), ("ranks", "ranks"), ("nodes", "nodes"))
            if name in frame and frame[name].nunique() > 1
        ),
    ]
