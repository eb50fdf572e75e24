"""Pipelines: what they do to images against torchvision's functions, and the constants that their networks take."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from test_data import NO_FFCV
from torchvision.transforms.v2 import functional

from bench.build.networks import network, trained
from crt.data import DATASETS, PIPELINES
from crt.data.augment import COLOURS, VARIANCES, Changes, jitter, lighting, rotate
from crt.data.loader import loader
from crt.models.classifier import Classifier, Normalize

DIGITS = DATASETS["digits"]
ADJUST = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
OWN, CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def bytes_of(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures with some noise, and dark and light ends."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [[np.sin(a * x + b * y + c) for a, b, c in random.uniform(-9, 9, (3, 3))] for _ in range(count)]
    images = 128 + 140 * np.array(waves) + random.normal(0, 8, (count, 3, height, width))
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def reference(image: torch.Tensor, kinds: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    for kind in kinds.tolist():
        image = ADJUST[kind](image, factors[kind].item())
    return image


@pytest.mark.parametrize("strength", [0.1, 0.25, 1.0])
def test_jitter_is_torchvisions_in_each_order(strength):
    images = bytes_of(24, 32, 32)
    kinds = torch.tensor(list(permutations(range(3))) * 4)
    factors = 1 + strength * (2 * torch.rand(24, 3, generator=torch.Generator().manual_seed(1)) - 1)
    found = jitter(images.float(), kinds, factors)
    expected = torch.stack([reference(*each) for each in zip(images, kinds, factors, strict=True)])
    off = (found - expected.float()).abs()
    # A blend that ends on a whole number may be rounded to either side of it, and later factors stretch that.
    assert off.max() <= 2 and (off > 0).float().mean() < 1e-3
    assert torch.equal(found, found.round()) and found.min() >= 0 and found.max() <= 255
    assert (found - images).abs().float().mean() > 2  # else nothing was held against nothing


@pytest.mark.parametrize("kind", range(3))
def test_each_kind_alone(kind):
    images = bytes_of(8, 20, 36, 2)
    factors = torch.ones(8, 3)
    factors[:, kind] = torch.linspace(0.5, 1.5, 8)
    found = jitter(images.float(), torch.tensor([[0, 1, 2]] * 8), factors)
    expected = torch.stack([ADJUST[kind](x, f.item()) for x, f in zip(images, factors[:, kind], strict=True)])
    off = (found - expected.float()).abs()
    assert off.max() <= 1 and (off > 0).float().mean() < 1e-3


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (24, 40)])
def test_turns_are_torchvisions(size):
    images, degrees = bytes_of(8, *size, 3), torch.tensor([-2.0, -1.3, -0.2, 0.0, 0.7, 2.0, 30.0, -75.0])
    found = rotate(images.float(), degrees)
    turned = [functional.rotate(x, d.item()) for x, d in zip(images, degrees, strict=True)]
    expected = torch.stack(turned).float()
    # A source halfway between two pixels may be taken for either.
    assert (found != expected).any(1).float().mean() < 1e-3
    assert torch.equal(found[3], images[3].float()) and (found[0] != images[0]).any()


def test_lighting():
    np.testing.assert_allclose(COLOURS @ COLOURS.T, np.eye(3), atol=1e-3)
    drawn = Changes(PIPELINES["rrm-imagenet"], 40_000, 0, 0, torch.Tensor.clone).shifts.double().numpy()
    expected = 0.05**2 * sum(v**2 * np.outer(c, c) for v, c in zip(VARIANCES, COLOURS, strict=True))
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.03 * expected.max())
    x = bytes_of(4, 8, 8).float() / 255
    shifts = torch.tensor([[0.3, -0.2, 0.0]] * 4)
    expected = (x.double() + shifts.double()[:, :, None, None]).clip(0, 1)
    torch.testing.assert_close(lighting(x, shifts).double(), expected, atol=1e-7, rtol=0)


def test_draws_are_of_the_stated_ranges():
    drawn = Changes(PIPELINES["rrm-l2"], 6000, 0, 0, torch.Tensor.clone)
    assert 0.75 <= drawn.factors.min() < 0.76 and 1.24 < drawn.factors.max() <= 1.25
    assert -2 <= drawn.angles.min() < -1.99 and 1.99 < drawn.angles.max() <= 2
    _, counts = drawn.kinds.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and 860 < counts.min() and counts.max() < 1140  # 4.8 standard deviations
    again, other = (Changes(PIPELINES["rrm-l2"], 6000, 0, epoch, torch.Tensor.clone).factors for epoch in (0, 1))
    assert torch.equal(drawn.factors, again) and not torch.equal(drawn.factors, other)


def epoch(kind: str, data, pipeline: str, number: int = 1, **options) -> list[torch.Tensor]:
    """An epoch's images in the order of their places, and these."""
    options = {"batch_size": 64, "device": "cpu", "seed": 3, "images": 200} | options
    made = loader(kind, options.pop("dataset", DIGITS), "train", data=data, pipeline=pipeline, **options)
    made.epoch = number
    x, y, index = (torch.cat(part) for part in zip(*made, strict=True))
    made.close()
    order = index.argsort()
    return [x[order], y[order], index[order]]


SMALL = [name for name, pipeline in PIPELINES.items() if pipeline.takes(DIGITS)]


@pytest.mark.parametrize("pipeline", SMALL)
@pytest.mark.parametrize("kind", ["torch", "device"])
def test_an_epoch_is_its_seeds_alone(kind, pipeline, digits):
    first, again = epoch(kind, digits, pipeline), epoch(kind, digits, pipeline, batch_size=50)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    x = first[0]
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert torch.allclose(x * 255, (x * 255).round(), atol=1e-4)
    if pipeline != "plain":
        assert not torch.equal(x, epoch(kind, digits, pipeline, 2)[0])
        assert not torch.equal(x, epoch(kind, digits, pipeline, seed=4)[0])


@pytest.mark.parametrize("kind", ["torch", "device"])
def test_ranks_share_one_process_epoch(kind, digits):
    one = epoch(kind, digits, "rrm-l2")
    ranks = [epoch(kind, digits, "rrm-l2", rank=rank, world=2, batch_size=32) for rank in (0, 1)]
    place = torch.cat([index for *_, index in ranks]).argsort()
    assert torch.equal(torch.cat([x for x, *_ in ranks])[place], one[0])


def test_memory_jitters_and_turns_what_it_crops(digits):
    crops, found = (epoch("device", digits, name)[0] for name in ("crt", "rrm-l2"))
    drawn = Changes(PIPELINES["rrm-l2"], 200, 3, 1, torch.Tensor.clone)
    for k in range(0, 200, 10):
        image = reference((crops[k] * 255).round().byte(), drawn.kinds[k], drawn.factors[k])
        image = functional.rotate(image, drawn.angles[k].item())
        assert ((found[k] * 255 - image).abs() > 2.01).float().mean() < 2e-3


@pytest.mark.slow
@NO_FFCV
def test_ffcv_changes_as_device_does(digits):
    unpadded = replace(DIGITS, pad=0)
    ours, theirs = (epoch(kind, digits, "rrm-l2", dataset=unpadded) for kind in ("device", "ffcv"))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_what_a_pipeline_does_not_fit_is_refused(digits):
    with pytest.raises(ValueError, match=r"rrm-imagenet.*digits \(allowed: crt, plain, rrm-linf, rrm-l2, duet\)"):
        epoch("device", digits, "rrm-imagenet")


CONSTANTS = {
    ("cifar10", "crt"): (OWN, CIFAR, False),
    ("cifar10", "rrm-linf"): (OWN, (0.2471, 0.2435, 0.2616), True),
    ("cifar10", "rrm-l2"): (OWN, CIFAR, True),
    ("cifar10", "duet"): ((0.0,) * 3, (1.0,) * 3, False),
    ("digits", "rrm-linf"): ((0.3055,) * 3, (0.3759,) * 3, True),
    ("digits", "duet"): ((0.0,) * 3, (1.0,) * 3, False),
    ("restricted_imagenet", "rrm-imagenet"): ((0.4717, 0.4499, 0.3837), (0.2600, 0.2516, 0.2575), True),
}


@pytest.mark.parametrize(("names", "expected"), CONSTANTS.items())
def test_the_first_layer_is_the_pipelines(names, expected, tiny):
    cell = tiny().cells[0].model_copy(update=dict(zip(("dataset", "pipeline"), names, strict=True)))
    layer = network(cell).normalize
    mean, std, clamp = expected
    assert torch.equal(layer.mean.flatten(), torch.tensor(mean)) and torch.equal(layer.std.flatten(), torch.tensor(std))
    assert layer.clamp == clamp
    x = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.5])[:, None, None, None].expand(5, 3, 2, 2)
    seen = x.double().clip(0, 1) if clamp else x.double()
    oracle = (seen - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std).double()[:, None, None]
    torch.testing.assert_close(layer(x).double(), oracle, atol=1e-6, rtol=1e-6)


def test_a_clamped_layer_passes_gradients_within_the_range_alone():
    x = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.1], dtype=torch.float64).view(5, 1, 1, 1).requires_grad_()
    layer = Normalize((0.2,), (0.5,), clamp=True).double()
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0, 2, 2, 2, 0], dtype=torch.float64))
    clamped, free = (
        Classifier(torch.nn.Flatten(), 12, 2, (0.5,) * 3, (0.2,) * 3, clamp=clamp) for clamp in (True, False)
    )
    assert clamped.state_dict().keys() == free.state_dict().keys()
    assert clamped.to("meta")(torch.empty(3, 3, 2, 2, device="meta")).shape == (3, 2)


def test_weights_of_another_normalization_are_refused(tiny, tmp_path):
    cell = tiny().cells[0]
    (folder := tmp_path / "runs" / cell.id).mkdir(parents=True)
    torch.save(network(cell).state_dict(), folder / "model.pt")
    kept = trained(cell, tmp_path / "runs").state_dict()
    assert all(torch.equal(a, b) for a, b in zip(kept.values(), network(cell).state_dict().values(), strict=True))
    torch.save(network(cell.model_copy(update={"pipeline": "duet"})).state_dict(), folder / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt.*mean \[0\.0, 0\.0, 0\.0\].*plain's \[0\.305"):
        trained(cell, tmp_path / "runs")
