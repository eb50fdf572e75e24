"""The tables in LaTeX, for a paper: booktabs and siunitx."""

import re
from collections.abc import Iterator

import pandas as pd

from reports.booktabs import Column, environment, escape, fixed, number, pages, percent, significant, text
from reports.couples import shown
from reports.typeset import INTERVAL, compared, judged, masked, who

_HEAD = r"""% Compiles as it stands. In a paper that loads booktabs and siunitx, \input it for the tables alone.
\ifdefined\maketitle % a class is loaded: this is a paper
  \let\closetables\relax
\else
  \documentclass[a4paper]{article}
  \usepackage[margin=15mm]{geometry}
  \usepackage{booktabs}
  \usepackage{siunitx}
  \def\closetables{\end{document}}
  \begin{document}
  \section*{TITLE}
NOTES\fi
"""

_ACCURACIES = (("clean", "clean"), ("at_eps", r"at $\varepsilon$"))


def latex(title: str, lines: list[str], frames: dict[str, pd.DataFrame]) -> str:
    """A document of the report's tables, by name; `lines` is what must be known before the numbers are read.

    Its packages are booktabs, geometry and siunitx. What a page cannot hold is split.
    """
    words = {"TITLE": escape(title), "NOTES": "".join(f"  \\noindent {escape(line)}\\par\n" for line in lines)}
    head = re.sub("|".join(words), lambda found: words[found[0]], _HEAD)
    tables = [
        environment(f"{escape(title)}: {caption}", part)
        for caption, columns in _tables(frames)
        for part in pages(columns)
    ]
    return "\n".join([head, *tables, "\\closetables\n"])


def _tables(frames: dict[str, pd.DataFrame]) -> Iterator[tuple[str, list[Column]]]:
    """Caption and columns; tables of two runs folders stand apart, for nothing is divided across them."""
    timing, robustness = frames["timing"], frames["robustness"]
    if "folder" in timing:
        for folder in timing["folder"].unique():
            own = {
                key: f[f["folder"] == folder].drop(columns="folder") if "folder" in f else f
                for key, f in frames.items()
            }
            yield from ((f"{caption} Folder: {escape(folder)}.", columns) for caption, columns in _tables(own))
        return
    yield f"time. {INTERVAL}", _time(timing)
    if timing.filter(regex="^paper_").notna().any(axis=None):
        yield "time, as measured and as published.", _time_and_paper(timing)
    if timing[["memory_mb", "host_memory_mb"]].notna().any(axis=None):
        yield "peak memory: the GPU's in an epoch, the host's of a whole training.", _memory(timing)
    if not frames["means"].empty:
        yield f"time of an epoch, over architectures. {INTERVAL}", _means(shown(frames["means"]))
    if not frames["factors"].empty:
        yield f"factors of the whole time; their product is the total. {INTERVAL}", _factors(shown(frames["factors"]))
    if not frames["scaling"].empty:
        yield f"speedup by ranks. {INTERVAL}", _scaling(frames["scaling"])
    yield from judged(robustness)
    if not frames["masking"].empty:
        odd = "Odd: images that a weaker attack broke and a stronger one did not."
        yield rf"do the attacks work? Accuracy at $\varepsilon$ in \%. {INTERVAL} {odd}", masked(frames["masking"])
    if not frames["comparisons"].empty:
        yield rf"differences, image by image; accuracy in \%. {INTERVAL}", compared(shown(frames["comparisons"]))


def _time(frame: pd.DataFrame) -> list[Column]:
    """Beside the time, what it bought where that was measured; below a ratio, in what its two sides are unlike."""
    slowdown = number(frame, "slowdown", "measured", fixed(2), "slowdown")
    for cell, unlike in zip(slowdown.cells, frame["unlike"], strict=True):
        cell += [rf"{{\scriptsize unlike {escape(field)}}}" for field in ("" if pd.isna(unlike) else unlike).split()]
    published = frame["as_published"].notna() & (frame["as_published"] != frame["slowdown"])
    return [
        *(who(frame, 16) if frame["at_eps"].notna().any() else who(frame)),
        *([number(frame, "epochs", "epochs", fixed(0))] if frame["epochs"].nunique() > 1 else []),
        number(frame, "batch", "batch", fixed(0)),
        number(frame, "s_per_epoch", "s/epoch", significant),
        slowdown,
        *([number(frame, "as_published", "as published", fixed(2), "slowdown")] if published.any() else []),
        number(frame, "ideal", "ideal", fixed(2), "slowdown"),
        number(frame, "efficiency", "efficiency", fixed(2)),
        number(frame, "hours", "own", significant, "hours"),
        number(frame, "hours_with_teacher", "+ teacher", significant, "hours"),
        *([number(frame, "acr", "ACR", fixed(3))] if frame["acr"].notna().any() else []),
        *(
            [number(frame, key, head, percent(1), r"accuracy in \%") for key, head in _ACCURACIES]
            if frame["at_eps"].notna().any()
            else []
        ),
    ]


def _memory(frame: pd.DataFrame) -> list[Column]:
    columns = {"memory_mb": "GPU", "host_memory_mb": "host"}
    return who(frame) + [number(frame, key, head, significant, "MB") for key, head in columns.items()]


def _time_and_paper(frame: pd.DataFrame) -> list[Column]:
    names = {"s_per_epoch": "s/epoch", "slowdown": "slowdown", "hours": "hours", "hours_with_teacher": "with teacher"}
    if frame["paper_hours_with_teacher"].isna().all():
        del names["hours_with_teacher"]
    return who(frame) + [
        number(frame, prefix + name, head, fixed(2) if name == "slowdown" else significant, group)
        for name, group in names.items()
        for prefix, head in (("", "measured"), ("paper_", "published"))
    ]


def _couple(frame: pd.DataFrame) -> list[Column]:
    return [text("slower", frame["slower"]), text("faster", frame["faster"])]


def _means(frame: pd.DataFrame) -> list[Column]:
    return [
        *_couple(frame),
        number(frame, "architectures", "architectures", fixed(0)),
        *(number(frame, kind, kind, fixed(2), "mean") for kind in ("geometric", "arithmetic")),
        number(frame, "ideal", "ideal", fixed(2)),
    ]


def _factors(frame: pd.DataFrame) -> list[Column]:
    return [
        text("architecture", frame["arch"]),
        *_couple(frame),
        number(frame, "total", "total", fixed(2)),
        *(number(frame, name, name, fixed(2)) for name in ("epochs", "passes", "batch", "precision", "host")),
        *([number(frame, "paper_total", "published", fixed(2), "total")] if frame["paper_total"].notna().any() else []),
    ]


def _scaling(frame: pd.DataFrame) -> list[Column]:
    return [
        text("architecture", frame["arch"]),
        text("method", frame["method"]),
        text("kind", frame["kind"]),
        *(number(frame, name, name, fixed(0)) for name in ("ranks", "nodes", "batch")),
        *(number(frame, name, name, fixed(2)) for name in ("speedup", "efficiency")),
    ]
