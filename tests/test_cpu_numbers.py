"""Random numbers of torch's CPU generator, computed by tensors: against torch itself."""

import pytest
import torch
from stand_in_gpu import ASYNCHRONOUS, gpu

from crt.attacks import cpu_numbers
from crt.attacks.run import offsets
from crt.threat import Threat

SEEDS = [0, 1, 5489, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1]
CPU = torch.device("cpu")


def torchs(draw, seed: int, *shape: int) -> torch.Tensor:
    return draw(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 113, 114, 312, 3072, 5001])
def test_uniform_numbers_are_torchs_in_every_bit(count):
    expected = torch.stack([torchs(torch.rand, seed, count) for seed in SEEDS])
    assert torch.equal(cpu_numbers.uniform(SEEDS, count, CPU), expected)


@pytest.mark.parametrize("count", [16, 17, 31, 32, 108, 3072])
def test_normal_numbers_are_torchs(count):
    expected = torch.stack([torchs(torch.randn, seed, count) for seed in SEEDS])
    found = cpu_numbers.normal(cpu_numbers.uniform(SEEDS, cpu_numbers.draws_of_normal(count), CPU), count)
    # The angle is at most 2 pi, so that its rounding moves a sine by some 1e-15, and a number is below 10.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 6, 6), (3, 5, 7)])
def test_offsets_are_the_same_on_the_device(norm, full, shape):
    threat, names = Threat(norm=norm, eps=0.1), [(3, 0), (3, 11), (4, 2)]
    x = torch.rand(3, *shape)
    expected = offsets(x, threat, names, 2, full)
    with gpu() as log:
        there = x.to("cuda")
        log.events.clear()
        found = offsets(there, threat, names, 2, full)
        assert found.is_cuda and not log.waits() and log.count(ASYNCHRONOUS) == 1
    found = found.as_subclass(torch.Tensor)
    if norm == "linf":
        assert torch.equal(found, expected)
    # Normal numbers and their norm are rounded in another order in float64, which float32 mostly does not show.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1 * torch.finfo(torch.float32).eps)
