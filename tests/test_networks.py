"""Counted operations of a training step against the methods' pass counts and the networks' published sizes."""

from pathlib import Path

import pytest

from bench.build.cost import forward_flops, step_flops
from bench.manifest import read_manifest

CELLS = {
    (cell.arch, cell.method.name): cell
    for cell in read_manifest(Path(__file__).parents[1] / "manifests" / "table4.yaml").cells
}
MACS = {"resnet110": 253.1e6, "resnext29": 1409.5e6, "dla": 1030.9e6, "regnetx_200mf": 223.3e6}
OTHERS = {"resnet10": 253.4e6, "vit": 829.0e6, "wideresnet34_10": 6658.9e6}


@pytest.mark.parametrize(("arch", "macs"), (MACS | OTHERS).items())
def test_a_standard_step_is_three_forwards(arch, macs):
    cell = CELLS["resnet110", "Standard"].model_copy(update={"arch": arch})
    assert forward_flops(cell) == pytest.approx(2 * macs, rel=1e-3)
    # The first convolution needs no gradient of its input: at most 2 % of the whole.
    assert step_flops(cell) == pytest.approx(3 * 2 * macs, rel=0.02)


@pytest.mark.parametrize("arch", MACS)
def test_smoothmix_costs_28_thirds_of_a_standard_step(arch):
    # m = 2, T = 4: 12 forwards, 8 backwards to the input, 4 whole backwards, over 3 units.
    ratio = step_flops(CELLS[arch, "SmoothMix"]) / step_flops(CELLS[arch, "Standard"])
    assert ratio == pytest.approx(28 / 3, rel=0.02)


@pytest.mark.parametrize("arch", ["resnext29", "dla", "regnetx_200mf"])
def test_crt_adds_the_teachers_forward(arch):
    ratio = step_flops(CELLS[arch, "CRT"]) / step_flops(CELLS[arch, "Standard"])
    assert ratio == pytest.approx(1 + MACS["resnet110"] / (3 * MACS[arch]), rel=0.01)
