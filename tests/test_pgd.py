"""The parts of projected gradient ascent, and robust datasets against their formula, re-stated in float64."""

import math

import pytest
import torch
from test_adversarial_methods import problem, size
from test_methods import classifier, same, state
from test_smoothing_methods import length

from crt.attacks.pgd import ascend, climb, inputs_only, project, start
from crt.attacks.robust_images import robustify
from crt.threat import Threat


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 32, 32), (1, 2, 2), (3, 224, 224)])
@pytest.mark.parametrize(
    ("norm", "eps"),
    [("linf", 0.0), ("linf", 2 / 255), ("linf", 8 / 255), ("linf", 1.0), ("l2", 0.0), ("l2", 0.25), ("l2", 3.0)],
)
def test_projection_is_inside_ball_and_box(shape, norm, eps):
    threat, draw = Threat(norm=norm, eps=eps), torch.Generator().manual_seed(1)
    x = torch.rand((4, *shape), generator=draw)
    x[0], x[1] = x[0].round(), (x[1] * 255).round() / 255
    far = x + torch.randn(x.shape, generator=draw)
    for found in (project(far, x, eps, norm), start(x, eps, norm, draw), project(x + eps, x, eps, norm)):
        assert found.min() >= 0 and found.max() <= 1 and found.dtype == x.dtype
        assert size(found.double() - x.double(), threat).max() <= eps * (1 + 1e-6)
    # A point of the ball and the box stays where it is but for the rounding of a sum.
    near = project(x.lerp(project(far, x, eps, norm), 0.5), x, eps, norm)
    torch.testing.assert_close(near, x.lerp(project(far, x, eps, norm), 0.5), rtol=0, atol=2e-7)


def test_projection_takes_the_nearest_point_of_the_ball():
    x = torch.full((2, 3, 8, 8), 0.5, dtype=torch.float64)
    d = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = x + 0.3 * d / d.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(project(x + d, x, 0.3, "l2"), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(project(x + d, x, 0.3, "linf"), (x + d).clip(0.2, 0.8), rtol=0, atol=1e-14)


def test_starts_are_uniform_in_the_cube_and_on_the_sphere():
    x, draw = torch.full((500, 3, 8, 8), 0.5), torch.Generator().manual_seed(0)
    before = torch.get_rng_state()
    cube, sphere = start(x, 0.1, "linf", draw) - x, start(x, 0.3, "l2", draw) - x
    assert torch.equal(before, torch.get_rng_state())
    quantiles = torch.quantile(cube.flatten()[::7], torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(quantiles, torch.tensor([-0.1, -0.05, 0.0, 0.05, 0.1]), rtol=0, atol=2e-3)
    torch.testing.assert_close(sphere.flatten(1).norm(dim=1), torch.full((500,), 0.3), rtol=0, atol=1e-5)
    assert sphere.mean(0).abs().max() < 5 * 0.3 / math.sqrt(192 * 500)
    assert torch.equal(start(x, 0.1, "linf", draw.manual_seed(0)) - x, cube)


def test_ascent_directions_have_length_one():
    g = torch.randn(3, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g[1], g[2, 0, 0, 0] = 0, 0
    assert torch.equal(ascend(g, "linf"), torch.sgn(g))
    torch.testing.assert_close(ascend(g, "l2").flatten(1).norm(dim=1), torch.tensor([1.0, 0, 1]).double())
    tiny = torch.full((1, 1, 1, 1), 1e-10, dtype=torch.float64)
    torch.testing.assert_close(ascend(tiny, "l2"), torch.full_like(tiny, 0.5))


def test_inputs_only_leaves_the_mode_and_restores_what_was():
    model = classifier(0).train()
    model.body[1].eval()
    model.head.bias.requires_grad_(False)
    modes, wanted = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError), inputs_only(model):
        assert [m.training for m in model.modules()] == modes and not any(p.requires_grad for p in model.parameters())
        raise KeyError
    assert wanted == [p.requires_grad for p in model.parameters()]


def test_the_first_of_the_best_is_taken():
    """On a hill one image starts at the top, one crosses it and is as high as before, and one only comes near."""
    x = torch.tensor([0.5, 0.375, -1.0], dtype=torch.float64)[:, None, None, None]
    calls = []

    def hill(x):
        calls.append(x)
        return -(x - 0.5).square().flatten()

    found = climb(hill, lambda x, g: x + 0.25, x, 3, best_of=True)
    assert found.flatten().tolist() == [0.5, 0.375, -0.25] and len(calls) == 4
    assert torch.equal(climb(hill, lambda x, g: x + 0.25, x, 3, best_of=False), x + 0.75) and len(calls) == 7


def inverted(teacher, targets, starts, steps, step):
    """The robust dataset's images one after the other: the nearest of all iterates, the last, and the distances."""
    best, last, distances = [], [], []
    for target, now in zip(targets, starts, strict=True):
        goal, iterates, far = teacher.features(target[None])[0], [now], []
        for i in range(steps + 1):
            now = iterates[-1].detach().requires_grad_()
            d = length(teacher.features(now[None])[0] - goal)
            far.append(float(d.detach()))
            if i < steps:
                (g,) = torch.autograd.grad(d, now)
                iterates.append((now.detach() - step * g / (length(g) + 1e-10)).clamp(0, 1))
        best.append(iterates[far.index(min(far))])
        last.append(iterates[-1])
        distances.append(far)
    return torch.stack(best), torch.stack(last), torch.tensor(distances, dtype=torch.float64)


@pytest.mark.parametrize(("steps", "step"), [(12, 0.1), (6, 0.8)])
def test_robustify_equals_its_restatement(steps, step):
    teacher, (x, _) = classifier(5).double().eval().requires_grad_(False), problem()
    starts = x.roll(1, 0)
    images, distance = robustify(teacher, x, starts, steps, step, batch=4)
    best, last, far = inverted(teacher, x, starts, steps, step)
    torch.testing.assert_close(images, best, rtol=0, atol=1e-10)
    torch.testing.assert_close(distance, far.min(1).values, rtol=1e-8, atol=0)
    assert (distance <= far[:, -1] + 1e-12).all() and (distance < 0.9 * far[:, 0]).any()
    # The longer steps overshoot, so that the best is not the last.
    assert torch.equal(best, last) == (step < 0.5)
    assert images.min() >= 0 and images.max() <= 1 and not images.requires_grad


def test_robustify_leaves_its_teacher_and_does_not_depend_on_batches():
    teacher, (x, _) = classifier(5).double().train(), problem()
    before, starts, calls = state(teacher), x.roll(1, 0), []
    teacher.body.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    one = robustify(teacher, x, starts, steps=5, batch=2)
    # The target, each of five descents once, the end, and what is left.
    assert calls == [2] * 32 + [1] * 8
    whole = robustify(teacher, x, starts, steps=5)
    for a, b in zip(one, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert same(before, state(teacher)) and all(module.training for module in teacher.modules())
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
