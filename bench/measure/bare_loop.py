"""Certification written without this project's engine, as the reference for its overhead."""

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from crt.evals.smoothing import Smoothing, pa_low
from crt.judgement import Judgement


@torch.no_grad()
def bare_certify(smoothing: Smoothing, model: nn.Module, x: Tensor, seed: tuple[int, int]) -> Judgement:
    """Certify one image (C, H, W) batch by batch, as in the paper's pseudocode, on the noise of `smoothing`.

    Cohen et al., 2019 (https://arxiv.org/abs/1902.02918), figure 1.
    """

    def counts(n: int, stream: int) -> np.ndarray:
        predictions = [model(noisy).argmax(1).cpu() for noisy in smoothing.noisy(x, n, (*seed, stream))]
        return np.bincount(torch.cat(predictions).numpy())

    cA = int(counts(smoothing.n0, 0).argmax())
    nA = int(np.pad(counts(smoothing.n, 1), (0, cA + 1))[cA])
    bound = pa_low(nA, smoothing.n, smoothing.alpha)
    certified, details = bound >= 0.5, {"drawn": smoothing.n, "nA": nA}
    radius = smoothing.threat.sigma * float(ndtri(bound)) if certified else 0.0
    return Judgement(prediction=cA if certified else -1, radius=radius, details=details)
