"""Two ranks record the readings of both of their GPUs, and the phases of both, and reports add them up."""

from pathlib import Path

import pytest
from test_ddp import run
from test_reports import epoch, start

from bench.jobs.lease import JobPaths
from bench.jobs.time_arms import run_study
from bench.jobs.train import run_cell
from bench.manifest import read_manifest
from bench.measure import gpu_telemetry
from bench.records import Epoch, Machine, Phases, RankUse, Start, read
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
        return gpu_telemetry._Reading(1000, 2000, 40 + rank, 0x44 * rank, count[0] * (1000 + 500 * rank), 1 + rank)

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
    from bench.results.loading import load
    from bench.results.warnings import remarks
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
            assert len(r.other_ranks) == 1 and r.other_ranks[0].host_memory > 0 and r.load >= 0
            assert [gpu.joules for gpu in r.gpus] == [1.0, 1.5] and [g.celsius_after for g in r.gpus] == [40, 41]
        (first,) = (r for r in read(file) if isinstance(r, Start))
        assert len(first.machines) == 2 and len({machine.host for machine in first.machines}) == 1
    (split,) = (r for r in read(timed) if isinstance(r, Phases))
    assert len(split.other_ranks) == 1 and split.other_ranks[0].host != split.host
    (m,) = load(table, [tmp_path / "runs"])
    lines = remarks([m])
    assert any(line.startswith("Throttled GPU: cnn2c2f Standard, throughout, rank 1: hw_thermal") for line in lines)
    shared = "Shared GPU: cnn2c2f Standard, in 2 of 2 epochs, rank 1: up to 2 processes."
    assert any(line.startswith(shared) for line in lines)
    assert joules_by_run(m) == [[pytest.approx(2.5 * DATASETS["digits"].train_images / 64)] * 2]
    (row,) = energy([m], Rates()).to_dict("records")
    shares = [part.host["all_reduce"] / sum(part.host.values()) for part in (split, *split.other_ranks)]
    assert row["all_reduce_share"] == pytest.approx(sum(shares) / 2) and 0 < row["all_reduce_share"] < 1


def test_hosts_and_devices_of_all_ranks_are_warned_of(tmp_path):
    from bench.results.measured import Measured
    from bench.results.warnings import remarks

    (tmp_path / "m.yaml").write_text(TIMED)
    cell = read_manifest(tmp_path / "m.yaml", networks=False).cells[0]
    own = dict(host="n1", device="H100", driver="1", cpu="c", cpus=8, threads=4, load=1.0)
    first = start().model_copy(update=own | {"other_ranks": (Machine(**own | {"device": "A100", "load": 11.5}),)})
    idle = RankUse(memory=None, host_memory=1.0, load=2.0)
    rounds = {k: epoch("m", k, 1.0, 64, k).model_copy(update={"load": 9.0, "other_ranks": (idle,)}) for k in (1, 2)}
    rounds[2] = rounds[2].model_copy(update={"other_ranks": (idle.model_copy(update={"load": 12.5}),)})
    m = Measured(cell, Path("runs"), starts=[first], runs={0: rounds})
    lines = [line.partition(". ")[0] for line in remarks([m])]
    assert lines == [
        "Busy host at the start (load above its 8 cores): cnn2c2f Standard, load 11.5",
        "Busy host while it was timed (load above 1.5 per core): cnn2c2f Standard, in 1 of 2 epochs, load up to 12.5",
        "Ranks on unlike devices: cnn2c2f Standard, A100, H100",
    ]
