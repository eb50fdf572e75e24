"""Bounds of margins against those of auto_LiRPA, another library (Xu et al., 2020, https://arxiv.org/abs/2002.12920).

It is no dependency of this project: these tests are skipped where it is not installed.
"""

import pytest
import torch
from test_intervals import EPS, with_norms
from test_lipschitz import network
from test_methods import toy

from crt.lipschitz.crown import margins
from crt.lipschitz.intervals import ball
from crt.lipschitz.statistics import fixed

lirpa = pytest.importorskip("auto_LiRPA", exc_type=ImportError)


@pytest.mark.parametrize("make", [network, with_norms], ids=["plain", "batchnorm"])
@pytest.mark.parametrize(("method", "beta"), [("IBP", 0.0), ("CROWN-IBP", 1.0)])
@pytest.mark.parametrize("eps", [EPS / 10, 2 * EPS])
def test_bounds_are_those_of_auto_lirpa(make, method, beta, eps):
    model, (x, y) = make().eval().requires_grad_(False), toy(6)
    x, images = x.double(), ball(x.double(), eps, "linf")
    found = margins(model, fixed(model, x).layers, images, y, beta)
    low, high = (model.normalize(images.centre + sign * images.half) for sign in (-1, 1))
    around = lirpa.PerturbationLpNorm(norm=torch.inf, x_L=low, x_U=high, eps=eps)
    one_hot = torch.eye(3, dtype=torch.float64)
    rows = one_hot[y][:, None] - one_hot[(y[:, None] + torch.tensor([1, 2])) % 3]
    bounded = lirpa.BoundedModule(torch.nn.Sequential(model.body, model.head), x)
    inputs = (lirpa.BoundedTensor(model.normalize(x), around),)
    least, _ = bounded.compute_bounds(x=inputs, C=rows, method=method, bound_upper=False)
    torch.testing.assert_close(found, least, rtol=1e-8, atol=1e-8)
