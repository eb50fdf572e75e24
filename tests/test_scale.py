"""Work that grows with the manifest and not with its square: records are read once, repetitions are not compared."""

from collections import Counter
from pathlib import Path

import pytest
from test_reports import epoch, start

from bench import records
from bench.cell import Paper
from bench.manifest import Manifest, read_manifest
from bench.records import End, append
from bench.results import loading
from bench.results.measured import Measured
from bench.results.pairs import comparable_pairs
from reports.tables.factors import factors
from reports.tables.sweeps import sweeps

TEXT = """
baseline: Standard
dataset: digits
loader: torch
arch: cnn2c2f
threat: {sigma: 0.25}
recipe: {epochs: 3, batch_size: 64, lr: 0.1}
seed: SEEDS
cells: [{method: [Standard, Gaussian]}]
"""


def grown(tmp_path: Path, seeds: int) -> tuple[Manifest, Path]:
    """A manifest of two methods and some seeds, with what each cell's training wrote."""
    (tmp_path / "m.yaml").write_text(TEXT.replace("SEEDS", str(list(range(seeds)))))
    manifest, runs = read_manifest(tmp_path / "m.yaml"), tmp_path / f"runs{seeds}"
    for cell in manifest.cells:
        file = runs / cell.id / "train.jsonl"
        for record in (start(flops={cell.id: 1.0}), *(epoch(cell.id, n, 1.0, 1437) for n in range(3)), End(time=1.0)):
            append(file, record)
    return manifest, runs


def test_every_file_is_read_once(tmp_path, monkeypatch):
    manifest, runs = grown(tmp_path, 3)
    files = Counter()

    def reads(path: Path):
        files[path] += 1
        return records.read_lines(path)

    monkeypatch.setattr(loading, "read_lines", reads)
    loading.load(manifest, [runs])
    assert len(files) == 6 and set(files.values()) == {1}


@pytest.mark.parametrize("seeds", [2, 4])
def test_factors_grow_with_the_seeds_and_not_with_their_pairs(tmp_path, seeds):
    manifest, runs = grown(tmp_path, seeds)
    assert len(factors(manifest, loading.load(manifest, [runs]))) == seeds


def test_a_student_is_compared_with_a_teacher_of_any_seed(tiny):
    student = tiny(method="CRT", teacher="{arch: cnn2c2f, method: Standard, seed: 7, recipe: *r}").cells[0]
    # As a cell of the table the teacher is judged; as a teacher it is not.
    teacher = student.teacher.model_copy(update={"paper": Paper(acr=0.5)})
    cells = (student, teacher, student.model_copy(update={"seed": 3}), teacher.model_copy(update={"seed": 8}))
    measured = [Measured(cell, Path()) for cell in cells]
    again = Measured(student, Path())
    # The third one has another seed than the first, and the same teacher.
    pairs = {(measured.index(a), measured.index(b)) for a, b in comparable_pairs(measured)}
    assert pairs == {(0, 1), (2, 1)}
    assert list(comparable_pairs([measured[0], again])) == [(measured[0], again)]


def test_sweeps_are_found_within_what_is_equal_otherwise(tmp_path):
    (tmp_path / "s.yaml").write_text(
        TEXT.replace("SEEDS", "[0, 1]").replace("[Standard, Gaussian]", "[Standard, SmoothMix, SmoothMix: {eta: 2}]")
    )
    manifest = read_manifest(tmp_path / "s.yaml")
    found = sweeps(loading.load(manifest, [tmp_path]))
    assert found["argument"].tolist() == ["eta"] * 4
