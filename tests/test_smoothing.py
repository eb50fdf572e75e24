"""Cohen's certificate: golden bounds, a known radius, abstentions, and noise that hangs on no batch size."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crt.evals.clean import Clean
from crt.evals.smoothing import Smoothing, pa_low
from crt.plugins import plugins
from crt.threat import Threat

THREAT = Threat(sigma=0.25)


class HalfSpace(nn.Module):
    """Class 1 where the pixels' mean is above a half; a copy of the inputs is kept."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        above = x.flatten(1).mean(1) - 0.5
        return torch.stack([-above, above], 1)


class Says(nn.Module):
    """Logits of what `answer` returns for the number of the call and the size of the batch."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def forward(self, x):
        self.calls += 1
        return self.answer(self.calls, len(x))


def at(distance: float) -> torch.Tensor:
    """A (1, 4, 4) image at a signed l2 distance from the half-space."""
    return torch.full((1, 4, 4), 0.5 + distance / 4)


def classes(labels) -> torch.Tensor:
    return nn.functional.one_hot(torch.as_tensor(labels), 3).float()


@pytest.mark.parametrize(
    ("nA", "bound"),
    [
        (100_000, 0.9999309248330094),
        (99_999, 0.99990766967),
        (99_000, 0.98898934038),
        (90_000, 0.89703649622),
        (60_000, 0.59520104729),
    ],
)
def test_golden_bounds(nA, bound):
    assert pa_low(nA, 100_000, 0.001) == pytest.approx(bound, abs=1e-11 if nA < 100_000 else 1e-15)


def test_bound_at_the_ends():
    assert pa_low(50_490, 100_000, 0.001) >= 0.5 > pa_low(50_489, 100_000, 0.001)
    assert pa_low(0, 100_000, 0.001) == 0.0
    assert pa_low(7, 7, 0.05) == pytest.approx(0.05 ** (1 / 7), abs=1e-14)


def test_bound_is_the_binomial_tail():
    p = pa_low(17, 20, 0.01)
    assert sum(math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(17, 21)) == pytest.approx(0.01, abs=1e-12)


@pytest.mark.parametrize("distance", [-0.35, -0.1, 0.1, 0.25, 0.5])
def test_radius_of_a_half_space_is_its_distance(distance):
    found = Smoothing(threat=THREAT, skip_wrong=False).judge(HalfSpace(), at(distance), 0, (0, 3))
    assert found.prediction == (distance > 0)
    assert abs(distance) - 0.015 < found.radius <= abs(distance)
    true = 0.5 * (1 + math.erf(abs(distance) / 0.25 / math.sqrt(2)))
    assert found.details["n"] == 100_000 and found.details["nA"] / 100_000 == pytest.approx(true, abs=0.006)
    assert found.details["pA_low"] == pa_low(found.details["nA"], 100_000, 0.001)


def test_certain_class_has_the_largest_radius():
    found = Smoothing(threat=THREAT).judge(HalfSpace(), at(9.0), 1, (0, 0))
    assert (found.prediction, found.details["nA"]) == (1, 100_000)
    assert found.radius == pytest.approx(0.25 * 3.81145656, abs=1e-8)


def test_abstains_between_classes():
    found = Smoothing(threat=THREAT, n=1000, skip_wrong=False).judge(HalfSpace(), at(0.0), 1, (0, 0))
    assert (found.prediction, found.radius) == (-1, 0.0) and 400 < found.details["nA"] < 600


def test_abstains_where_the_draws_disagree_with_the_selection():
    model = Says(lambda call, size: classes([2 if call == 1 else 1] * size))
    found = Smoothing(threat=THREAT, n=1000).judge(model, at(0.0), 2, (0, 0))
    assert (found.prediction, found.details["nA"], found.details["pA_low"]) == (-1, 0, 0.0)


def test_tied_selection_takes_the_first_class():
    model = Says(lambda call, size: classes([2, 1] * (size // 2) if call == 1 else [1] * size))
    assert Smoothing(threat=THREAT, n=1000).judge(model, at(0.0), 1, (0, 0)).prediction == 1


def test_not_a_number_is_never_certified():
    model = Says(lambda call, size: torch.full((size, 3), math.nan))
    assert Smoothing(threat=THREAT, n=1000).judge(model, at(0.0), 0, (0, 0)).prediction == -1
    assert Clean(threat=THREAT).judge(model, at(0.0), 0, (0, 0)).prediction == -1


def noise(batch: int, seed: tuple[int, int] = (0, 3), n: int = 1050, n0: int = 130):
    model = HalfSpace()
    before = torch.get_rng_state()
    found = Smoothing(threat=THREAT, n=n, n0=n0, batch=batch).judge(model, at(0.1), 1, seed)
    assert torch.equal(before, torch.get_rng_state())
    assert max(len(x) for x in model.seen) <= max(batch, 100)
    return found, (torch.cat(model.seen) - at(0.1)) / 0.25


@pytest.mark.parametrize("batch", [1, 100, 300, 399, 1000, 5000])
def test_verdict_and_noise_do_not_depend_on_the_batch(batch):
    (found, drawn), (expected, same) = noise(batch), noise(1000)
    assert found == expected and 0 < found.details["nA"] < 1050
    assert torch.equal(drawn, same) and len(drawn) == 1050 + 130


def test_noise_is_fresh_and_normal():
    _, drawn = noise(1000)
    assert len(torch.unique(drawn.flatten(1)[:, :2], dim=0)) == len(drawn)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03) and float(drawn.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(drawn, noise(1000, (0, 4))[1]) and not torch.equal(drawn, noise(1000, (1, 3))[1])
    # More draws go on where fewer end.
    assert torch.equal(noise(300, n=2000)[1][: len(drawn)], drawn)


def test_batch_bears_on_no_answer():
    assert Smoothing.execution == {"batch"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threat": Threat()}, "Smoothing needs sigma > 0"),
        ({"n": 9}, "always abstain"),
        ({"alpha": 1e-9, "n": 29}, "always abstain"),
        ({"alpha": 0}, "greater than 0"),
        ({"alpha": 1}, "less than 1"),
        ({"n0": 0}, "greater than or equal to 1"),
        ({"batch": 0}, "greater than or equal to 1"),
        ({"batch": "many"}, "a number is needed"),
        ({"precision": "fp16"}, "'fp32', 'tf32' or 'bf16'"),
        ({"sigma": 0.25}, "sigma"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(ValidationError, match=words) as error:
        Smoothing(**({"threat": THREAT} | arguments))
    assert isinstance(error.value, ValueError)


def test_smallest_n_can_certify():
    assert Smoothing(threat=THREAT, n=10).judge(HalfSpace(), at(9.0), 1, (0, 0)).prediction == 1


def test_clean_is_the_largest_logit_at_radius_zero():
    clean = Clean(threat=Threat())
    for distance in (-0.1, 0.1):
        found = clean.judge(HalfSpace(), at(distance), 1, (0, 0))
        assert (found.prediction, found.radius, found.details) == (int(distance > 0), 0.0, {})
    with pytest.raises(ValidationError):
        Clean(threat=Threat(), n=3)


def test_noisy_predicts_the_class_of_one_seeded_draw():
    threat, x = Threat(sigma=0.5), torch.full((3, 4, 4), 0.5)

    class Side(torch.nn.Module):
        def forward(self, x):
            margin = x.mean((1, 2, 3)) - 0.5
            return torch.stack([-margin, margin], 1)

    noisy = plugins("crt.evals")["Noisy"](threat=threat)
    found = [noisy.judge(Side(), x, 0, (7, i)).prediction for i in range(200)]
    assert found == [noisy.judge(Side(), x, 0, (7, i)).prediction for i in range(200)]
    assert 70 < sum(found) < 130
    still = plugins("crt.evals")["Noisy"](threat=Threat())
    assert {still.judge(Side(), x + 0.1, 0, (7, i)).prediction for i in range(20)} == {1}
