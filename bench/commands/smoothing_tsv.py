"""Certificates in the format of https://github.com/locuslab/smoothing: one tab-separated line per image.

Certificates of a grid of radii have three more columns: draws, draws of the class, and the bound of its probability.
"""

from dataclasses import dataclass
from pathlib import Path

from crt.disk import append_line, naming

_HEADER = ("idx", "label", "predict", "radius", "correct", "time")
_DRAWS = ("drawn", "nA", "pA_low")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image: `predict` is -1 for an abstention, `radius` in pixel units of [0, 1], `time` in seconds."""

    idx: int
    label: int
    predict: int
    radius: float
    time: float
    draws: dict[str, float] | None = None
    """Values of the columns that certificates of a grid add; None without a grid."""

    @property
    def correct(self) -> bool:
        """True where the prediction is the label."""
        return self.predict == self.label


def read(path: Path) -> list[Row]:
    """Rows of a table; repeated headers are skipped. ValueError with file and line for a line that is no row.

    Times may be written as seconds or as hours:minutes:seconds.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        fields = tuple(line.split("\t"))
        if fields in (_HEADER, _HEADER + _DRAWS) or not line:
            continue
        try:
            idx, label, predict, radius, _, time, *rest = fields
            draws = dict(zip(_DRAWS, map(float, rest), strict=True)) if rest else None
            row = Row(idx=int(idx), label=int(label), predict=int(predict), radius=float(radius), time=_seconds(time),
                      draws=draws)  # fmt: skip
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} (allowed: {' '.join(_HEADER)}, by tabs)") from None
        rows.append(row)
    return rows


def resume(path: Path, grid: bool = False) -> list[Row]:
    """Rows of a table to resume. A missing table is created, and an incomplete last line is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "a+b") as file:
        file.seek(0)
        complete = file.read().rfind(b"\n") + 1
        file.truncate(complete)
        if not complete:
            file.write("\t".join(_HEADER + _DRAWS * grid).encode() + b"\n")
    return read(path)


def append(path: Path, row: Row) -> None:
    """Append a row in one write."""
    fields: tuple[float | str, ...] = (row.idx, row.label, row.predict, row.radius, int(row.correct), _clock(row.time))
    if row.draws is not None:
        fields += (int(row.draws["drawn"]), int(row.draws["nA"]), row.draws["pA_low"])
    append_line(path, "\t".join(map(str, fields)).encode() + b"\n")


def _seconds(text: str) -> float:
    parts = [float(part) for part in text.split(":")]
    if len(parts) not in (1, 3):
        raise ValueError
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def _clock(seconds: float) -> str:
    minutes, micros = divmod(round(seconds * 1e6), 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02}:{micros // 1_000_000:02}.{micros % 1_000_000:06}"
