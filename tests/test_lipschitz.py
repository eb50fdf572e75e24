"""Deterministic bounds against dense operators, an exact solver and thousands of attacks."""

import math

import pytest
import torch
from pydantic import ValidationError
from test_methods import toy
from torch import nn
from torch.nn import functional as F

from crt.archs.convnet import cnn6c2f
from crt.evals.lipschitz import Lipschitz
from crt.lipschitz.balls import balls
from crt.lipschitz.boxes import Region, before_head, regions, through
from crt.lipschitz.chain import Layer, chain, check, exact, scale, weighted
from crt.lipschitz.measures import features_constant, products, tightness
from crt.lipschitz.norms import converged_norm, estimates, final_norms, first_vectors, upper_norm
from crt.lipschitz.translation import distances, over_ball, over_both
from crt.methods.bcp import BCP
from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.threat import Threat
from crt.training.method import Step

EPS = 0.2
THREAT = Threat(eps=EPS)
BOUNDS = ("global", "box")
CONVS = [(3, 1, 1), (4, 2, 1), (3, 2, 1), (3, 2, 0), (5, 3, 2), (2, 1, 0), (1, 1, 0)]
ACTIVATIONS = {
    "relu": lambda shape: nn.ReLU(),
    "relutheta": lambda shape: ReLUTheta(shape, 1.0),
    "maxmin": lambda shape: MaxMin(shape, 0.8, -0.6),
}


def network(activation: str = "relu", seed: int = 0) -> Classifier:
    """A chain for images (3, 8, 8), in float64."""
    torch.manual_seed(seed)
    act = ACTIVATIONS[activation]
    convs = [nn.Conv2d(3, 8, 3, padding=1), act((8, 8, 8)), nn.Conv2d(8, 8, 4, stride=2, padding=1), act((8, 4, 4))]
    body = nn.Sequential(nn.Sequential(*convs), nn.Flatten(), nn.Linear(128, 16), act((16,)))
    return Classifier(body, 16, 3, (0.5, 0.4, 0.3), (0.8, 0.9, 1.1)).double()


def dense(layer: Layer) -> torch.Tensor:
    """The matrix of a layer's linear map, column by column."""
    basis = torch.eye(math.prod(layer.shape), dtype=torch.float64).view(-1, *layer.shape)
    module = layer.module.double()
    with torch.no_grad():
        return (module(basis) - module(torch.zeros_like(basis))).flatten(1).T


def conv(kernel: int, stride: int, padding: int) -> Layer:
    torch.manual_seed(kernel + 10 * stride)
    return Layer("body.0", nn.Conv2d(3, 5, kernel, stride, padding), (3, 8, 8))


@pytest.mark.parametrize("arguments", CONVS)
def test_norms_of_convolutions_are_those_of_their_matrices(arguments):
    layer = conv(*arguments)
    norm = torch.linalg.matrix_norm(dense(layer), 2)
    assert float(converged_norm(layer)) == pytest.approx(float(norm), rel=1e-6)
    assert float(norm) * (1 - 1e-12) <= float(upper_norm(layer)) <= 1.1 * float(norm)


def test_a_small_image_sees_more_of_a_kernel_than_its_own_frequencies():
    layer = Layer("body.0", nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), (1, 1, 2))
    with torch.no_grad():
        layer.module.weight[0, 0, 0] = torch.tensor([0.0, 0.5, 1.0])
    assert 1 < float(torch.linalg.matrix_norm(dense(layer), 2)) <= float(upper_norm(layer))


def test_norms_of_linear_layers_are_exact():
    layer = Layer("head", nn.Linear(20, 7), (20,))
    norm = float(torch.linalg.matrix_norm(dense(layer), 2))
    assert float(upper_norm(layer)) == pytest.approx(norm, rel=1e-12)
    assert float(converged_norm(layer)) == pytest.approx(norm, rel=1e-7)


@pytest.mark.parametrize("layer", [conv(4, 2, 1), Layer("head", nn.Linear(20, 7), (20,))], ids=["conv", "linear"])
def test_estimates_rise_to_the_norm_and_have_its_gradient(layer):
    matrix, found, vectors = dense(layer), [], first_vectors((layer,))
    for iterations in (1, 1, 5, 500):
        norms, vectors = estimates((layer,), vectors, iterations)
        found.append(float(norms[layer.name].detach()))
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert found == sorted(found) and found[0] < 0.999 * norm and found[-1] == pytest.approx(norm, rel=1e-9)
    (g,) = torch.autograd.grad(norms[layer.name], layer.module.weight)
    # Along any direction the norm changes as the gradient says.
    direction = torch.randn_like(g)
    ends = []
    for t in (1e-5, -1e-5):
        with torch.no_grad():
            layer.module.weight.add_(t * direction)
            ends.append(float(torch.linalg.matrix_norm(dense(layer), 2)))
            layer.module.weight.sub_(t * direction)
    assert float((g * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_of_zeros_keeps_its_direction(dtype):
    layer = Layer("head", nn.Linear(4, 3, dtype=dtype), (4,))
    nn.init.zeros_(layer.module.weight)
    vectors = first_vectors((layer,))
    norms, after = estimates((layer,), vectors, 2)
    (g,) = torch.autograd.grad(norms["head"], layer.module.weight)
    assert float(norms["head"].detach()) == 0 and g.isfinite().all()
    torch.testing.assert_close(after["head"], F.normalize(vectors["head"]))


def test_bounds_of_a_new_6c2f_are_within_a_percent():
    torch.manual_seed(0)
    layers = weighted(chain(Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3).double(), (3, 32, 32)))
    assert [layer.shape for layer in layers[-2:]] == [(4096,), (512,)]
    norms, _ = estimates(layers, first_vectors(layers), 400)
    for layer in layers:
        d = torch.randn(64, *layer.shape, dtype=torch.float64)
        slopes = layer.module(d) - layer.module(torch.zeros_like(d))
        slope = float((slopes.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1)).max().detach())
        low, high = float(norms[layer.name].detach()), float(upper_norm(layer))
        assert slope < low <= high * (1 + 1e-9) and high <= 1.011 * low, layer.name


@pytest.mark.parametrize("layer", [conv(4, 2, 1), conv(3, 1, 1), Layer("body.0", nn.Linear(20, 7), (20,))])
def test_a_box_goes_through_a_layer_as_intervals_and_as_its_ball(layer):
    matrix, (B, width) = dense(layer), (4, math.prod(layer.shape))
    mu = torch.randn(B, *layer.shape, dtype=torch.float64)
    low, high = mu - torch.rand_like(mu), mu + torch.rand_like(mu)
    with torch.no_grad():
        wide, thin = (
            through(layer, Region.of(mu, rho, low, high), balls((layer,), rho, {"body.0": torch.tensor(2.0)})["body.0"])
            for rho in (torch.tensor(1e3, dtype=torch.float64), torch.tensor(1e-3, dtype=torch.float64))
        )
        bias = layer.module(torch.zeros_like(mu)).flatten(1)
        top = torch.where(matrix > 0, high.view(B, 1, width), low.view(B, 1, width)) * matrix
        bottom = torch.where(matrix > 0, low.view(B, 1, width), high.view(B, 1, width)) * matrix
    torch.testing.assert_close(wide.high.flatten(1), top.sum(2) + bias)
    torch.testing.assert_close(wide.low.flatten(1), bottom.sum(2) + bias)
    assert (float(wide.rho), float(thin.rho)) == pytest.approx((2e3, 2e-3))
    reach = 1e-3 * layer.module.weight.detach().flatten(1).norm(dim=1)
    reach = reach if layer.shape == (20,) else reach[:, None, None]
    torch.testing.assert_close(thin.high, (layer.module(mu) + reach).detach())
    torch.testing.assert_close(thin.low, (layer.module(mu) - reach).detach())


def exact_worst(c, low, high, rho):
    """max c d with |d| <= rho and low <= d <= high, by bisection on d = clip(t c)."""
    at = lambda t: [min(max(t * a, lo), hi) for a, lo, hi in zip(c, low, high, strict=True)]  # noqa: E731
    below, above = 0.0, 1e9
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if math.hypot(*at(middle)) <= rho else (below, middle)
    return sum(a * d for a, d in zip(c, at(below), strict=True))


@pytest.mark.parametrize("tight", [0.02, 0.3, 3.0])
def test_translations_equal_an_exact_solver(tight):
    torch.manual_seed(3)
    B, classes, width = 5, 4, 12
    weight, mu = torch.randn(classes, width, dtype=torch.float64), torch.randn(B, width, dtype=torch.float64)
    weight[2, :5] = weight[1, :5]
    low, high = mu - tight * torch.rand_like(mu), mu + tight * torch.rand_like(mu)
    low[0, :4] = mu[0, :4]
    y, rho = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([0.0, 0.5, 1.0, 1.0, 2.0], dtype=torch.float64)
    region = Region.of(mu, rho, low, high)
    found = {rounds: over_both(weight, y, region, rounds) for rounds in (0, 1, 2, None)}
    torch.testing.assert_close(found[0], over_ball(weight, y, rho))
    assert (found[1] <= found[0] + 1e-12).all() and (found[2] <= found[1] + 1e-12).all()
    for b in range(B):
        for i in range(classes):
            c = (weight[i] - weight[y[b]]).tolist()
            best = exact_worst(c, (low - mu)[b].tolist(), (high - mu)[b].tolist(), float(rho[b]))
            assert float(found[None][b, i]) == pytest.approx(best, abs=1e-7)
            assert float(found[1][b, i]) >= best - 1e-9


def test_translations_have_finite_gradients_where_nothing_moves():
    weight = torch.zeros(3, 4, requires_grad=True)
    mu = torch.zeros(2, 4, requires_grad=True)
    for rho in (0.0, 1.0):
        region = Region.of(mu, torch.tensor(rho, requires_grad=True), mu * 1.0, mu * 1.0)
        found = over_both(weight, torch.tensor([0, 1]), region, None)
        g = torch.autograd.grad(found.sum(), (weight, mu, region.rho))
        assert torch.equal(found, torch.zeros(2, 3)) and all(part.isfinite().all() for part in g)


def test_distances_of_equal_rows_are_0_and_those_of_near_ones_keep_their_digits():
    weight = (3 + torch.randn(30, 8, dtype=torch.float64)).requires_grad_()
    with torch.no_grad():
        weight[1], weight[2] = weight[0], weight[0] + 1e-9
    found = distances(weight)
    expected = torch.stack([torch.stack([(a - b).square().sum() for b in weight]) for a in weight]).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)
    assert float(found[0, 1].detach()) == 0
    (g,) = torch.autograd.grad(found[0, 1] + found[0, 3], weight)
    c = ((weight[0] - weight[3]) / found[0, 3]).detach()
    torch.testing.assert_close(g[[0, 1, 3]], torch.stack([c, 0 * c, -c]))


@pytest.fixture(scope="module", params=list(ACTIVATIONS))
def trained(request):
    """A network that was trained by BCP for some steps, images with labels, and its chain and norms."""
    model, method = network(request.param), BCP(threat=THREAT, warmup=30, ramp=50)
    x = torch.rand(24, 3, 8, 8, dtype=torch.float64)
    # Random pixels: with classes that are easier the thresholds soon cut off all that an attack could move.
    y = ((x - 0.5).flatten(1) @ torch.randn(192, 3, dtype=torch.float64)).argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for i in range(90):
        optimizer.zero_grad()
        method.loss(model, x, y, Step(float(i), y)).backward()
        optimizer.step()
    layers = chain(model.requires_grad_(False), (3, 8, 8))
    return model, x, y, layers, final_norms(layers, "fft_upper")


def attacks(model, x, y):
    """Perturbations of length EPS: random ones, and those that climb the difference of each two logits."""
    torch.manual_seed(5)
    found = [torch.randn_like(x) for _ in range(150)]
    for i in range(3):
        for start in (torch.zeros_like(x), torch.randn_like(x)):
            d = EPS * start / start.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None, None]
            for _ in range(20):
                d.requires_grad_()
                z = model(x + d)
                (g,) = torch.autograd.grad((z[:, i] - z.gather(1, y[:, None])[:, 0]).sum(), d)
                d = (d + EPS / 4 * g / g.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]).detach()
                d = d * (EPS / d.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp_max(1)[:, None, None, None]
                found.append(d)
    return [EPS * d / d.flatten(1).norm(dim=1).clamp_min(EPS / 1e3)[:, None, None, None] for d in found]


def test_no_attack_leaves_a_region_or_a_translation(trained):
    model, x, y, layers, norms = trained
    inputs = regions(model, layers, x, EPS, norms)
    translations = over_both(model.head.weight, y, inputs[-1], None)
    clean, tried, nearest = model(x), 0, 0.0
    for d in attacks(model, x, y):
        now = model.normalize(x + d)
        for layer, region in zip(layers, inputs, strict=True):
            distance = (now - region.mu).flatten(1).norm(dim=1)
            assert (distance <= region.rho + 1e-9).all(), layer.name
            assert (now >= region.low - 1e-9).all() and (now <= region.high + 1e-9).all(), layer.name
            now = layer.module(now)
        moved = (now - now.gather(1, y[:, None])) - (clean - clean.gather(1, y[:, None]))
        assert (moved <= translations + 1e-9).all()
        nearest = max(nearest, float((moved / translations.clamp_min(1e-9)).detach().max()))
        tried += len(d)
    assert tried > 5000 and nearest > 0.3, "attacks must come near the bound"


@pytest.mark.parametrize("bounds", BOUNDS)
def test_no_attack_breaks_a_verdict(trained, bounds):
    model, x, y, _, _ = trained
    questions = [(image, int(label), (0, i)) for i, (image, label) in enumerate(zip(x, y, strict=True))]
    found = list(Lipschitz(threat=THREAT, bounds=bounds).judge_many(model, questions))
    radii = torch.tensor([verdict.radius for verdict in found], dtype=torch.float64)
    classes = torch.tensor([verdict.prediction for verdict in found])
    assert torch.equal(classes, model(x).argmax(1)) and (radii > 0).sum() > len(x) / 4
    tried = 0
    for d in attacks(model, x, y):
        for at in (1.0, 0.5):
            inside = model(x + at * d * (radii / EPS)[:, None, None, None]).argmax(1)
            assert (inside == classes)[radii > 0].all()
            tried += int((radii > 0).sum())
    assert tried > 3000
    far = torch.stack([model(x + 20 * d).argmax(1) != classes for d in attacks(model, x, y)])
    assert far.any(), "the attacks must be able to break something"


def test_boxes_tighten_and_certify_no_less(trained):
    model, x, y, layers, norms = trained
    region = before_head(model, layers, x, EPS, norms)
    both, ball = over_both(model.head.weight, y, region, None), over_ball(model.head.weight, y, region.rho)
    assert (both <= ball + 1e-12).all()
    ratio = tightness(model, layers, x, y, EPS, norms)
    assert ratio == pytest.approx(float(both.sum() / ball.sum())) and 0 < ratio < 0.999
    questions = [(image, 0, (0, 0)) for image in x]
    radii = {b: [v.radius for v in Lipschitz(threat=THREAT, bounds=b).judge_many(model, questions)] for b in BOUNDS}
    assert all(box == EPS for alone, box in zip(radii["global"], radii["box"], strict=True) if alone >= EPS)
    assert set(radii["box"]) <= {0.0, EPS} and sum(r == EPS for r in radii["box"]) > 0


def linear_network(seed=0):
    """The head on a rotation enlarged 3 times, of images (1, 4, 4) divided by 0.5; in float64."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 16).double())
    nn.init.orthogonal_(body[1].weight, gain=3)
    return Classifier(body, 16, 4, (0.1,), (0.5,)).double()


def test_bounds_of_a_linear_network_are_exact():
    model = linear_network()
    x = torch.rand(20, 1, 4, 4)
    questions = [(image, 0, (0, 0)) for image in x]
    found = list(Lipschitz(threat=THREAT).judge_many(model, questions))
    with torch.no_grad():
        z, matrix = model(x.double()), model.head.weight @ model.body[1].weight / 0.5
        top, expected = z.argmax(1), []
        for i in range(20):
            pairs = [k for k in range(4) if k != top[i]]
            expected.append(min(float((z[i, top[i]] - z[i, k]) / (matrix[top[i]] - matrix[k]).norm()) for k in pairs))
    assert [v.radius for v in found] == pytest.approx(expected, abs=1.5e-6)
    assert all(v.radius <= radius for v, radius in zip(found, expected, strict=True))
    # Behind a multiple of the identity the box holds the whole ball, so that the verdicts are those of the radius.
    nn.init.eye_(model.body[1].weight)
    alone = [v.radius for v in Lipschitz(threat=THREAT).judge_many(model, questions)]
    eps = sorted(alone)[10] - 1e-5
    boxed = [v.radius for v in Lipschitz(threat=Threat(eps=eps), bounds="box").judge_many(model, questions)]
    assert boxed == [eps if r > eps else 0.0 for r in alone] and 0 < boxed.count(eps) < 20


def test_products():
    model = linear_network()
    layers = chain(model, (1, 4, 4))
    found = products(model, layers, final_norms(layers, "power_iteration"))
    w = model.head.weight.detach()
    assert float(scale(model)) == 2
    assert found.logits == pytest.approx(6 * float(torch.linalg.matrix_norm(w, 2)), rel=1e-9)
    widest = max(float((a - b).norm()) for a in w for b in w)
    assert found.margins == pytest.approx(6 * widest, rel=1e-9)
    norms = final_norms(layers, "fft_upper")
    assert float(features_constant(model, layers, norms)) == pytest.approx(6, rel=1e-12)


def test_verdicts_hang_on_no_batch(monkeypatch):
    model, (x, _) = network().float(), toy(7)
    questions = [(image, 0, (0, i)) for i, image in enumerate(x)]
    for bounds in BOUNDS:
        judge = Lipschitz(threat=Threat(eps=0.05), bounds=bounds)
        whole = list(judge.judge_many(model, questions))
        assert [next(judge.judge_many(model, [question])) for question in questions] == whole
        monkeypatch.setattr("crt.evals.lipschitz.BATCH", 3)
        assert list(judge.judge_many(model, iter(questions))) == whole
        assert all(p.dtype == torch.float32 for p in model.parameters())


def test_norms_from_below_certify_no_less():
    model, (x, _) = network(), toy(6)
    of = lambda norms: Lipschitz(threat=THREAT, norms=norms)  # noqa: E731
    questions = [(image, 0, (0, 0)) for image in x]
    pairs = zip(*(of(n).judge_many(model, questions) for n in ("fft_upper", "power_iteration")), strict=True)
    assert all(0 < sure.radius <= published.radius < 1.3 * sure.radius for sure, published in pairs)


def test_a_network_without_numbers_abstains():
    model = network()
    nn.init.constant_(model.head.bias, math.nan)
    for bounds in BOUNDS:
        (found,) = Lipschitz(threat=THREAT, bounds=bounds).judge_many(model, [(toy(1)[0][0], 0, (0, 0))])
        assert (found.prediction, found.radius) == (-1, 0.0)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm2d(3), "BatchNorm2d"),
        (nn.Conv2d(3, 3, 3, groups=3), "groups=3"),
        (nn.Conv2d(3, 3, 3, dilation=2), "dilation"),
        (nn.Conv2d(3, 3, 3, padding="same"), "padding=same"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Flatten(2), "start_dim=2"),
        (nn.AvgPool2d(2), "AvgPool2d"),
    ],
)
def test_a_layer_without_a_bound_is_named(layer, words):
    model = Classifier(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), layer)), 3, 3, (0,), (1,))
    for act in (check, Lipschitz(threat=THREAT).fits, BCP(threat=THREAT).fits):
        with pytest.raises(ValueError, match=rf"^body\.1\.1: .*{words}.*allowed: Linear"):
            act(model)


@pytest.mark.parametrize("threat", [Threat(), Threat(norm="linf", eps=0.1)])
def test_bounds_need_an_l2_ball(threat):
    with pytest.raises(ValidationError, match="allowed: norm: l2, eps above 0"):
        Lipschitz(threat=threat)


def test_bounds_are_computed_in_full_precision():
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before, x = [part.fp32_precision for part in parts], torch.rand(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(KeyError), exact(x.device):
            assert F.linear(x, x).dtype == torch.float32
            assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
            raise KeyError
        assert F.linear(x, x).dtype == torch.bfloat16
    assert [part.fp32_precision for part in parts] == before
