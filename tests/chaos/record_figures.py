"""Figures of reports, and the records that they should come from."""

import csv
from pathlib import Path
from typing import Any


def without(lines: list[bytes], told: list[int]) -> list[bytes]:
    """The lines without those told, and without the attempts whose start is among them."""
    kept, lost = [], False
    for number, line in enumerate(lines, 1):
        begins = number == 1 or b'"start"' in line[:64]
        lost = begins and number in told if begins else lost
        if not lost and number not in told:
            kept.append(line)
    return kept


def difference(one: Path, other: Path) -> str:
    """The first row that differs in two files of observations."""
    tables: list[list[dict[str, Any]]] = []
    for path in (one, other):
        with open(path, encoding="utf-8", newline="") as file:
            tables.append(
                [{k: v for k, v in row.items() if k not in ("remarks", "warnings")} for row in csv.DictReader(file)]
            )
    damaged_rows, expected_rows = tables
    for left, right in zip(damaged_rows, expected_rows, strict=False):
        if left != right:
            return f"a figure differs from that without the damaged line: {left} against {right}"
    if len(damaged_rows) != len(expected_rows):
        return f"{len(damaged_rows)} figures, {len(expected_rows)} without the damaged line"
    return ""
