"""Devices that times are estimated for: their figures, their names, and the share of peak that papers reached."""

from pathlib import Path
from statistics import median

import pytest

from bench.build import cost
from bench.manifest import read_manifest
from bench.manifest.quick import FLOPS
from bench.plan import devices
from crt.data import DATASETS

MANIFESTS = Path(__file__).parents[1] / "manifests"
TITAN_V = {"fp32": 14.9, "fp16": 110}
"""TFLOP/s at its peak: the device that the CRT and RRM papers took their times on."""


def reached(*tables: str) -> list[float]:
    """Shares of a Titan V's peak that printed times of training on CIFAR-10 amount to."""
    shares = []
    for cell in (cell for table in tables for cell in read_manifest(MANIFESTS / f"{table}.yaml").cells):
        seconds = cell.paper.s_per_epoch or (cell.paper.hours or 0) * 3600 / cell.recipe.epochs
        if seconds and (cell.recipe.precision == "fp16") == tables[0].startswith("rrm"):
            # FreeAT's printed seconds are of one of its replays.
            rate = cost.step_flops(cell) / cell.replays * DATASETS[cell.dataset].train_images / seconds
            shares.append(rate / TITAN_V[cell.recipe.precision] / 1e12)
    return shares


def test_the_shares_of_peak_are_those_of_published_times():
    plain, matrix = reached("table4", "table15"), reached("rrm/table1", "rrm/table9")
    assert len(plain) == 12 and len(matrix) >= 7
    assert median(plain) == pytest.approx(devices.SHARE, rel=0.1)
    assert median(matrix) == pytest.approx(devices.MATRIX_SHARE, rel=0.1)
    assert (0.055 < min(plain) and max(plain) < 0.38) and (0.055 < min(matrix) and max(matrix) < 0.105)


def test_the_cpu_is_the_one_that_quick_cells_are_made_for():
    assert devices.speed("cpu").flops("fp32") == pytest.approx(FLOPS)


@pytest.mark.parametrize("name", devices.TABLE)
def test_no_precision_is_slower_than_fp32_at_its_peak_but_for_fp16_on_a_cpu(name):
    device = devices.TABLE[name]
    slow = [precision for precision in device.peaks if devices.speed(name).is_slow(precision)]
    assert device.source and slow == (["fp16"] if name == "cpu" else [])
    assert devices.speed("cpu").flops("fp16") == pytest.approx(devices.speed("cpu").flops("fp32") / 30, rel=0.01)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cpu", "cpu"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA L40S", None),
        ("NVIDIA A10", None),
    ],
)
def test_torchs_names_are_recognized(name, row):
    found = devices.recognized(name)
    assert (found and found.name) == row


@pytest.mark.parametrize(
    ("speed", "precisions", "words"),
    [
        (devices.speed("a100"), ["fp32"], "a100: 3.9 TFLOP/s = 20 % of 19.5 peak (fp32)"),
        (
            devices.speed("h100"),
            ["fp32", "bf16"],
            "h100: 99 TFLOP/s = 10 % of 989.4 peak (bf16); 13 TFLOP/s = 20 % of 67 peak (fp32)",
        ),
        (devices.speed("v100"), ["tf32"], "v100: 3.1 TFLOP/s = 20 % of 15.7 peak (fp32)"),
        (devices.speed("cpu"), ["bf16", "fp32"], "cpu: 0.04 TFLOP/s = 20 % of 0.2 peak (fp32)"),
        (devices.speed(None, gpu=True), ["fp32"], "a100: 3.9 TFLOP/s = 20 % of 19.5 peak (fp32)"),
        (
            devices.speed("NVIDIA L40S", gpu=True),
            ["fp32"],
            "NVIDIA L40S (not in bench/plan/devices.py; figures of a100): 3.9 TFLOP/s = 20 % of 19.5 peak (fp32)",
        ),
        (devices.speed("node", stated=8.0), ["bf16"], "node: 8 TFLOP/s, the profile's tflops"),
    ],
)
def test_an_assumption_is_told_with_its_figures(speed, precisions, words):
    assert speed.words(precisions) == words


@pytest.mark.parametrize(
    ("mine", "recorded", "same"),
    [
        ("a100", "NVIDIA A100-SXM4-80GB", True),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB", True),
        ("a100", "NVIDIA H100 80GB HBM3", False),
        ("a100", "cpu", False),
        ("cpu", "cpu", True),
        ("NVIDIA L40S", "NVIDIA L40S", True),
        ("NVIDIA L40S", "NVIDIA A10", False),
        ("NVIDIA L40S", "NVIDIA A100-SXM4-80GB", False),
    ],
)
def test_records_of_the_same_device_tell(mine, recorded, same):
    assert devices.speed(mine, gpu=mine != "cpu").is_of(recorded) == same


@pytest.mark.parametrize(("name", "row"), [("cpu", "cpu"), ("NVIDIA H200", "h200"), ("NVIDIA L40S", "a100")])
def test_this_machine_is_called_as_torch_calls_it(monkeypatch, name, row):
    monkeypatch.setattr("bench.measure.gpu_telemetry.device_name", lambda: name)
    assert (devices.here().name, devices.here().device.name) == (name, row)
