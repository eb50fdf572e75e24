"""Accuracy of corrupted images: each corruption by its definition, its severities, and independence of batches."""

import io
import json
from typing import get_args

import numpy as np
import pytest
import torch
from made_runs import frames
from PIL import Image
from torch import nn

from bench.manifest import read_manifest
from crt.data.corruptions import CORRUPTIONS, corrupt
from crt.evals.corrupted import Corrupted, Corruption
from crt.threat import Threat
from reports.tables.robustness import robustness_tables

SEED = (7, 3)


def picture(side: int = 32) -> np.ndarray:
    """A smooth picture with an edge, of 8 bits."""
    row, column = np.mgrid[:side, :side] / side
    x = np.stack([row, column, 0.3 + 0.4 * (row > 0.5)], -1)
    return np.round(255 * x) / 255


def grey(value: float, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), value)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_grow_and_pixels_are_of_8_bits(name):
    x = picture()
    changes = []
    for severity in range(1, 6):
        changed = corrupt(x, name, severity, SEED)
        assert changed.shape == x.shape and changed.min() >= 0 and changed.max() <= 1
        assert np.abs(changed * 255 - np.round(changed * 255)).max() < 1e-9
        assert (changed == corrupt(x, name, severity, SEED)).all()
        changes.append(np.abs(changed - x).mean())
    assert (0 < changes[0] < changes[-1] and name in ("jpeg", "pixelate")) or changes == sorted(changes)
    # The same pixels in a picture of more than 64 a side, which has ImageNet-C's constants, change more.
    large = np.tile(x, (3, 3, 1))
    assert np.abs(corrupt(large, name, 3, SEED) - large).mean() > changes[2]


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "speckle_noise"])
def test_noise_has_its_mean_and_deviation(name):
    value = 0.5
    noise = corrupt(grey(value), name, 3, SEED) - value
    strength = CORRUPTIONS[name][1][2]
    wanted = {
        "gaussian_noise": strength,
        "shot_noise": (value / strength) ** 0.5,
        "speckle_noise": value * strength,
    }[name]
    assert abs(noise.mean()) < 5 * wanted / noise.size**0.5 + 1e-3
    assert noise.std() == pytest.approx(wanted, rel=0.05)
    assert (corrupt(grey(value), name, 3, (7, 4)) - value != noise).any()


def test_impulses_are_black_or_white_in_equal_parts():
    found = corrupt(grey(0.4), "impulse_noise", 5, SEED)
    hit = (found == 0) | (found == 1)
    assert hit.mean() == pytest.approx(0.07, rel=0.1) and found[hit].mean() == pytest.approx(0.5, abs=0.1)
    assert np.abs(found[~hit] - 0.4).max() < 1e-9


def test_brightness_keeps_hue_and_saturation():
    import colorsys

    x = picture(8)[1:, 1:]
    found = corrupt(x, "brightness", 4, SEED).reshape(-1, 3)
    for before, after in zip(x.reshape(-1, 3), found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        assert after == pytest.approx(expected, abs=0.5 / 255 + 1e-9)


def test_contrast_scales_distances_to_the_mean_colour():
    x = picture()
    found, mean = corrupt(x, "contrast", 2, SEED), x.mean((0, 1))
    assert np.abs(found - (mean + 0.5 * (x - mean))).max() <= 0.5 / 255 + 1e-9


def test_a_blurred_point_is_a_normal_density():
    x = np.zeros((33, 33, 3))
    x[16, 16] = 1
    found = corrupt(x, "gaussian_blur", 5, SEED)[16, 14:19, 0]
    axis = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    axis /= axis.sum()
    assert np.abs(found - axis[4] * axis[2:7]).max() <= 0.5 / 255 + 1e-6


def test_jpeg_and_pixels_are_pillows():
    x = picture()
    image = Image.fromarray(np.uint8(np.round(255 * x)))
    image.save(file := io.BytesIO(), "JPEG", quality=58)
    assert (corrupt(x, "jpeg", 3, SEED) * 255 == np.asarray(Image.open(file))).all()
    blocks = corrupt(picture(96), "pixelate", 5, SEED)  # a quarter of each side: blocks of 4 x 4
    means = picture(96).reshape(24, 4, 24, 4, 3).mean((1, 3))
    assert np.abs(blocks - means.repeat(4, 0).repeat(4, 1)).max() <= 1 / 255


class Bright(nn.Module):
    """Class 1 where the mean of the pixels is above 0.6."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.6), mean], 1)


def test_the_corrupted_image_is_judged_and_batches_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, 3, 8, 8, generator=generator, dtype=torch.double) * 0.4 + 0.3
    questions = [(image, 0, (2, index)) for index, image in enumerate(x)]
    for name in CORRUPTIONS:
        judge = Corrupted(threat=Threat(), corruption=name, severity=4)
        found = list(judge.judge_many(Bright(), questions))
        direct = [corrupt(image.permute(1, 2, 0).numpy(), name, 4, (2, index)) for index, image in enumerate(x)]
        assert [judged.prediction for judged in found] == [int(image.mean() > 0.6) for image in direct]
        assert {judged.radius for judged in found} == {0.0}
        small = Corrupted(threat=Threat(), corruption=name, severity=4, batch=7)
        assert list(small.judge_many(Bright(), questions[::-1])) == found[::-1]
    assert [j.prediction for j in Corrupted(threat=Threat(), corruption="brightness").judge_many(Bright(), questions)]


def test_a_network_without_an_answer_abstains():
    judged = Corrupted(threat=Threat()).judge(nn.Flatten(), torch.full((3, 8, 8), torch.nan), 0, (0, 0))
    assert judged.prediction == -1


MANIFEST = """
title: Corruptions
dataset: digits
arch: cnn2c2f
threat: {norm: linf, eps: 0.1}
recipe: {epochs: 12, batch_size: 64, lr: 0.1}
evals: [Clean, Corrupted: {corruption: brightness}, Corrupted: {corruption: jpeg, severity: 5}, PGD]
cells: [{method: [Standard, SAT]}]
"""


def test_reports_have_a_row_and_an_accuracy_for_each_corruption(tmp_path):
    frame = frames(tmp_path, MANIFEST, images=50)["robustness"]
    labels = ["Corrupted(corruption=brightness, severity=3)", "Corrupted(corruption=jpeg, severity=5)"]
    assert frame["eval"].tolist() == [*labels, "PGD(steps=20, restarts=1)"] * 2
    corrupted = frame["judge"] == "Corrupted"
    assert frame["corrupted"].notna().equals(corrupted) and frame["at_eps"].notna().equals(~corrupted)
    assert frame["clean"].notna().all()
    records = (tmp_path / "runs" / frame["id"][0] / "judge.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in records]
    ident = next(spec.id for spec in read_manifest(tmp_path / "m.yaml").cells[0].evals if spec.label == labels[0])
    right = [line["prediction"] == line["label"] for line in found if line["eval"] == ident]
    assert frame["corrupted"][0] == pytest.approx(np.mean(right)) and len(right) == 50
    (table, *_) = robustness_tables(frame)
    assert [column.heading for column in table.columns if column.key == "corrupted"] == ["corrupted"]


def test_every_corruption_can_be_named_and_no_other():
    assert set(get_args(Corruption)) == set(CORRUPTIONS)
    for arguments in ({"corruption": "fog"}, {"corruption": "jpeg", "severity": 6}, {"severity": 0}):
        with pytest.raises(ValueError, match=r"corruption|severity"):
            Corrupted(threat=Threat(), **arguments)
