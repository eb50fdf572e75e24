"""Two ranks record the readings of both of their GPUs, and the phases of both, and reports add them up."""

from pathlib import Path

import pytest
from test_ddp import run

from bench.jobs.lease import JobPaths
from bench.jobs.time_arms import run_study
from bench.jobs.train import run_cell
from bench.manifest import read_manifest
from bench.measure import gpu_telemetry
from bench.records import Epoch, Phases, read
from crt.data import DATASETS

TIMED = """
baseline: Standard
dataset: digits
loader: device
pipeline: plain
threat: {norm: linf, eps: 0.1}
arch: cnn2c2f
recipe: {epochs: 2, batch_size: 32, lr: 0.1}
timing: {runs: 1, rounds: 2, images: 64}
ranks: 2
cells: [{method: Standard}]
"""


def watched(rank: int, folder: Path, data: Path, study: bool) -> None:
    """Train a cell or time a study, where the GPU of rank k gains 1000 + 500 k mJ between two readings."""
    count = [0]

    def reading() -> gpu_telemetry._Reading:
        count[0] += 1
        return gpu_telemetry._Reading(1000, 2000, 40 + rank, 0, count[0] * (1000 + 500 * rank))

    gpu_telemetry._reading = reading
    table = read_manifest(folder / "m.yaml")
    paths = JobPaths(runs=folder / "runs", data=data, process="shared")
    if study:
        run_study(table.studies[0], 0, paths)
    else:
        run_cell(table.cells[0].model_copy(update={"images": 64}), paths)


def test_two_ranks_record_their_gpus_and_their_phases(tmp_path, digits):
    # Imported here, so that the ranks, which import this file, start sooner.
    from bench.results.energy import Rates, joules_by_run
    from bench.results.measured import load
    from reports.tables.energy import energy

    (tmp_path / "m.yaml").write_text(TIMED)
    table = read_manifest(tmp_path / "m.yaml")
    for study in (True, False):
        run(watched, 2, tmp_path, digits, study)
    (timed,) = (tmp_path / "runs").glob("*/run0/time.jsonl")
    (trained,) = (tmp_path / "runs").glob("*/train.jsonl")
    for file, epochs in ((timed, 3), (trained, 2)):
        records = [r for r in read(file) if isinstance(r, Epoch)]
        assert len(records) == epochs
        for r in records:
            assert [gpu.joules for gpu in r.gpus] == [1.0, 1.5] and [g.celsius_after for g in r.gpus] == [40, 41]
    (split,) = (r for r in read(timed) if isinstance(r, Phases))
    assert len(split.other_ranks) == 1 and split.other_ranks[0].host != split.host
    (m,) = load(table, [tmp_path / "runs"])
    assert joules_by_run(m) == [[pytest.approx(2.5 * DATASETS["digits"].train_images / 64)] * 2]
    (row,) = energy([m], Rates()).to_dict("records")
    shares = [part.host["all_reduce"] / sum(part.host.values()) for part in (split, *split.other_ranks)]
    assert row["all_reduce_share"] == pytest.approx(sum(shares) / 2) and 0 < row["all_reduce_share"] < 1
