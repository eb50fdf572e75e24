"""Duet against a restatement by dense matrices in float64; rotations; readings of similarity."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from scipy.linalg import subspace_angles
from test_lipschitz_methods import THREAT, matrices, problem, two_layers, worst_logits
from test_methods import chain as student
from test_methods import classifier, make, toy
from test_passes import cell
from test_smoothing_methods import cross_entropy, gradient
from torch import nn
from torch.nn import functional as F

from bench.build.cost import forward_flops
from bench.build.counter import Counter
from crt.archs.convnet import cnn4c3f, cnn6c2f, cnn6c2f_bn
from crt.lipschitz.chain import Layer, chain, weighted
from crt.lipschitz.equation11 import eq11
from crt.lipschitz.norms import upper_norm
from crt.lipschitz.rotations import cosine, from_frame, guide, polar, rank_one, to_frame
from crt.lipschitz.similarity import similarity
from crt.methods.bcp import BCP
from crt.methods.duet import Duet
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain
from crt.plugins import find
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.recipe import Recipe


def teacher_of(model: Classifier) -> Classifier:
    """Another network of the same layers."""
    found = copy.deepcopy(model).eval().requires_grad_(False)
    torch.manual_seed(11)
    for parameter in found.parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
    # So that some feature of every image is above 0.
    found.body[3].bias += 1
    return found


def leading(weight, share, directions=None):
    """The first singular directions of a weight's matrix, and the rotation in them, in the weight's shape."""
    u, _, vt = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    rank = directions or math.ceil(share * len(vt))
    return u[:, :rank], (u[:, :rank] @ vt[:rank]).view_as(weight)


def dense_layers(model):
    """Each layer's matrix, the head's too, and how to make one of other weights in its place."""

    def of(weights):
        twin = copy.deepcopy(model)
        for layer, weight in zip((twin.body[0], twin.body[3], twin.head), weights, strict=True):
            del layer.weight
            layer.weight = weight
        return [matrix for matrix, _, _ in matrices(twin)] + [twin.head.weight]

    return of([model.body[0].weight, model.body[3].weight, model.head.weight]), of


def entering(model, x):
    """The input of each layer."""
    flow = [model.normalize(x).flatten(1)]
    for matrix, bias, _ in matrices(model):
        flow.append((flow[-1] @ matrix.T + bias).relu())
    return flow


def restated(method, model, x, taught):
    """The sum over layers of the mean over images, by dense matrices and full rotations."""
    (mine, of), (theirs, _) = dense_layers(model), dense_layers(taught)
    layers = weighted(chain(taught, (3, 4, 4)))
    bases = [leading(layer.module.weight, method.rank, method.directions) for layer in layers]
    lengths = [upper_norm(as_layer(layer, basis)) for layer, (_, basis) in zip(layers, bases, strict=True)]
    lengths = lengths if method.scaled else [torch.ones_like(length) for length in lengths]
    turned = of([basis / length for (_, basis), length in zip(bases, lengths, strict=True)])
    own = [model.body[0].weight, model.body[3].weight, model.head.weight]
    polars = of([leading(weight, 1.0)[1] / length for weight, length in zip(own, lengths, strict=True)])
    ours, inputs = entering(model, x), entering(taught, x)
    inputs = inputs if method.inputs == "own" else [z.detach() for z in ours]
    total = 0.0
    for k in range({"convs": 1, "body": 2, "all": 3}[method.layers]):
        norm = torch.linalg.matrix_norm(mine[k], 2)
        told, met = inputs[k] @ turned[k].T, ours[k] @ {"normalized": mine[k] / norm, "polar": polars[k]}.get(
            method.rotation, mine[k]).T  # fmt: skip
        u = torch.kron(bases[k][0].contiguous(), torch.eye(16 if k == 0 else 1, dtype=x.dtype))
        if method.project:
            met = met @ u @ u.T
        if method.rotation == "rank_one":
            told, met = (pair(m, z) for m, z in ((theirs[k], inputs[k]), (mine[k], ours[k])))
        if method.rotation == "block":
            told, met = (by_block(m, z, method.directions) for m, z in ((theirs[k], inputs[k]), (mine[k], ours[k])))
        if method.similarity == "cosine":
            total = total + sum(1 - a @ b / a.norm() / b.norm() for a, b in zip(told, met, strict=True)) / len(x)
            continue
        ratio = (norm if method.through_norms else norm.detach()) / upper_norm(layers[k])
        ratio = 1.0 if method.similarity == "relative" else ratio
        apart = [(ratio * a - b / ratio).norm() / a.norm().detach() for a, b in zip(told, met, strict=True)]
        total = total + sum(apart) / len(x)
    return total


def pair(matrix, z):
    """By the leading singular pair, with a gradient of the left vector alone."""
    v = torch.linalg.svd(matrix.detach())[2][0]
    u = matrix @ v
    return torch.outer(z @ v, u / u.norm())


def by_block(matrix, z, count):
    """By the leading singular pairs, with a gradient of the left vectors alone."""
    v = torch.linalg.svd(matrix.detach(), full_matrices=False)[2][:count]
    u, _, w = torch.linalg.svd(matrix @ v.T, full_matrices=False)
    return z @ v.T @ (u @ w).T


def as_layer(layer: Layer, weight: torch.Tensor) -> Layer:
    module = copy.deepcopy(layer.module)
    module.weight = nn.Parameter(weight)
    return layer._replace(module=module)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"similarity": "cosine"},
        {"similarity": "relative"},
        {"through_norms": True, "lbd": 0.7},
        {"scaled": False},
        {"scaled": False, "rotation": "polar", "similarity": "relative"},
        {"inputs": "shared", "rank": 0.3},
        {"project": False, "layers": "convs"},
        {"rank": 1.0, "project": False, "similarity": "cosine"},
        {"rotation": "polar"},
        {"rotation": "polar", "rank": 1.0, "similarity": "cosine", "inputs": "shared"},
        {"rotation": "rank_one"},
        {"rotation": "rank_one", "similarity": "cosine"},
        {"rotation": "block", "directions": 2},
        {"directions": 2},
        {"layers": "body", "project": False},
    ],
    ids=str,
)
def test_the_loss_equals_its_restatement(arguments):
    model, (x, y) = two_layers(), problem()
    twin, taught = copy.deepcopy(model), teacher_of(model)
    method = Duet(threat=THREAT, teacher=taught, warmup=2, ramp=4, kappa_final=0.1, power_iterations=3000, **arguments)
    for epoch, share in ((1.0, None), (3.0, 0.25)):
        loss, goal = method.loss(model, x, y, Step(epoch, y)), cross_entropy(twin(x), y)
        if share:
            _, worst, _ = worst_logits(twin, x, y, share * THREAT.eps, True)
            kappa = 1 - 0.9 * share
            goal = kappa * goal + (1 - kappa) * cross_entropy(worst, y)
        apart = restated(method, twin, x, taught)
        assert float(apart.detach()) > 0.05
        expected = goal + method.lbd * apart
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        torch.testing.assert_close(gradient(loss, model), gradient(expected, twin), rtol=1e-3, atol=1e-6)
        model.zero_grad(), twin.zero_grad()
    assert all(p.grad is None for p in taught.parameters())


def test_distillation_of_logits_is_added_to_bcp():
    model, (x, y) = two_layers(), problem()
    taught, arguments = teacher_of(model), {"warmup": 2, "ramp": 4, "kappa_final": 0.1}
    target = taught(x).softmax(1)
    for epoch in (1.0, 3.0):
        torch.manual_seed(0)
        method = Duet(threat=THREAT, teacher=taught, similarity="logits", lbd=0.7, **arguments)
        found = method.loss(model, x, y, Step(epoch, y))
        expected = BCP(threat=THREAT, **arguments).loss(model, x, y, Step(epoch, y))
        expected = expected + 0.7 * (target * (target.log() - model(x).log_softmax(1))).sum(1).mean()
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
        assert method.guides == {}


def test_a_student_begins_as_its_teacher_over_the_product_of_its_norms():
    model, (x, y) = two_layers(), problem()
    taught, before = teacher_of(model), copy.deepcopy(model)
    Duet(threat=THREAT, teacher=taught).loss(model, x, y, Step(0.0, y))
    assert torch.equal(model(x), before(x)), "by default it keeps its own weights"
    method = Duet(threat=THREAT, teacher=taught, start="teacher")
    method.loss(model, x, y, Step(0.0, y))
    layers = weighted(chain(taught, (3, 4, 4)))
    product = math.prod(float(upper_norm(layer)) for layer in layers)
    torch.testing.assert_close(model(x) * product, taught(x), rtol=1e-9, atol=1e-12)
    assert all(float(upper_norm(layer)) == pytest.approx(1) for layer in weighted(chain(model, (3, 4, 4))))
    # A training that goes on keeps its weights.
    later = Duet(threat=THREAT, teacher=taught, start="teacher")
    later.restore(method.state())
    with torch.no_grad():
        model.head.weight *= 2
    weight = model.head.weight.clone()
    for again in (method, later):
        again.loss(model, x, y, Step(1.0, y))
        assert torch.equal(model.head.weight, weight)


@pytest.mark.parametrize("similarity", ["cosine", "eq11"])
def test_a_teacher_is_like_itself(similarity):
    model, (x, y) = two_layers(), problem()
    method = Duet(
        threat=THREAT, teacher=copy.deepcopy(model).requires_grad_(False), similarity=similarity, rotation="polar",
        rank=1.0, lbd=1.0, power_iterations=3000,
    )  # fmt: skip
    apart = method.loss(model, x, y, Step(0.0, y)) - F.cross_entropy(model(x), y)
    # The teacher's norm is bounded from above, by up to a tenth more, so that their ratio is not 1 at all.
    assert float(apart.detach()) < (1e-6 if similarity == "cosine" else 0.6)


def test_equation_11_weighs_its_terms_by_the_ratio():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    none = torch.zeros_like(a)

    def distance(teacher, student, ratio):
        ratio = torch.tensor([float(ratio)], dtype=torch.float64)
        return eq11([teacher], [student], ratio, 1 / ratio)[0]

    for ratio in (0.5, 1.0, 3.0):
        first, second = distance(a, none, ratio), distance(a, b, ratio)
        torch.testing.assert_close(first, torch.full((5,), ratio, dtype=torch.float64))
        alone = (ratio * a - b / ratio).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)
        torch.testing.assert_close(second, alone)
    # Nearest where the student's outputs are the squared ratio times the teacher's.
    torch.testing.assert_close(distance(a, 9 * a, 3.0), torch.zeros(5, dtype=torch.float64))
    small = distance(1e-9 * a, b, 2.0) * 1e-9
    torch.testing.assert_close(small, b.flatten(1).norm(dim=1) / 2 / a.flatten(1).norm(dim=1))
    for apart in (distance, lambda s, t, _: cosine(s, t)):
        still = none.clone().requires_grad_()
        (g,) = torch.autograd.grad(apart(none, still, 1.0).sum(), still)
        assert torch.equal(g, none)
    assert torch.equal(distance(none, b, 1.0), torch.zeros(5, dtype=torch.float64))


def test_equation_11_has_its_gradients():
    torch.manual_seed(0)
    teachers = [torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)]
    students = [torch.randn_like(part, requires_grad=True) for part in teachers]
    ratios, scales = torch.rand(2, 2, dtype=torch.float64).add_(0.5).unbind()
    given = (ratios.requires_grad_(), scales.requires_grad_(), *students)
    assert torch.autograd.gradcheck(lambda r, k, *s: eq11(teachers, list(s), r, k), given)


LAYERS = [
    Layer("a", nn.Conv2d(3, 8, 3, 1, 1), (3, 8, 8)),
    Layer("b", nn.Conv2d(8, 6, 4, 2, 1), (8, 8, 8)),
    Layer("c", nn.Linear(40, 12), (40,)),
    Layer("d", nn.Linear(12, 12), (12,)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_guide_is_the_leading_part_of_the_polar_factor(layer, share):
    layer.module.double()
    found = guide(layer, share)
    frame, rotation = leading(layer.module.weight.detach(), max(share, 1e-9))
    x = torch.randn(4, *layer.shape, dtype=torch.float64)
    bare = as_layer(layer, rotation)
    out = bare.module(x) - bare.module(torch.zeros_like(x))
    coordinates = to_frame(found, out)
    torch.testing.assert_close(from_frame(found, coordinates), out)
    # Its norm is that of the whole rotation, from above, and 1 where the layer is linear.
    assert 1 - 1e-9 <= float(found.length) <= float(upper_norm(bare)) * (1 + 1e-9)
    assert isinstance(layer.module, nn.Conv2d) or float(found.length) == pytest.approx(1)
    torch.testing.assert_close(found.frame.T @ found.frame, torch.eye(frame.shape[1], dtype=torch.float64))
    multiplied = as_layer(layer, found.basis)
    ours = multiplied.module
    value = F.linear(x, ours.weight) if isinstance(ours, nn.Linear) else F.conv2d(x, ours.weight, None, ours.stride, 1)
    torch.testing.assert_close(value * found.length, coordinates)
    assert float(found.norm) == pytest.approx(float(upper_norm(layer)))


def test_newton_schulz_finds_the_polar_factor():
    torch.manual_seed(0)
    for shape in [(8, 3, 3, 3), (8, 40), (40, 8)]:
        weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        exact = leading(weight, 1.0)[1]
        torch.testing.assert_close(polar(weight), exact, rtol=0, atol=1e-6)
        direction = torch.randn(shape, dtype=torch.float64)
        g, expected = (torch.autograd.grad((m * direction).sum(), weight)[0] for m in (polar(weight), exact))
        torch.testing.assert_close(g, expected, rtol=1e-4, atol=1e-5)
    # A singular value of a hundredth of the length has come near.
    weight = torch.zeros(2, 2)
    weight[0, 0], weight[1, 1] = 1.0, 0.01
    torch.testing.assert_close(polar(weight), torch.eye(2), rtol=0, atol=0.001)


def test_the_leading_pair_is_that_of_the_layer():
    layer = LAYERS[2]
    weight = layer.module.double().weight
    u, _, vt = torch.linalg.svd(weight)
    x = torch.randn(3, 40, dtype=torch.float64)
    expected = torch.outer(x @ vt[0], u[:, 0])
    for sign in (1, -1):
        torch.testing.assert_close(rank_one(layer, sign * vt[:1], x), expected)


def test_the_teacher_is_taken_apart_once(monkeypatch):
    method, model, (x, y) = make("Duet"), student(0), toy(12)
    calls, svd = [], torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: calls.append(1) or svd(*a, **k))
    for epoch in (0.0, 50.0, 500.0):
        method.loss(model, x, y, Step(epoch, y)).backward()
    assert len(calls) == 4
    method = make("Duet", layers="convs")
    method.loss(model, x, y, Step(0.0, y))
    assert len(calls) == 6


def with_norms() -> Classifier:
    """A teacher with BatchNorm that has seen images, of the same layers as `student`."""
    torch.manual_seed(3)
    convs = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    convs += [nn.Conv2d(8, 8, 4, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    body = nn.Sequential(*convs, nn.Flatten(), nn.Linear(128, 16), nn.BatchNorm1d(16), nn.ReLU())
    model = Classifier(body, 16, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    for _ in range(5):
        model(toy(24)[0])
    return model.eval().requires_grad_(False)


def test_batchnorm_of_a_teacher_is_folded():
    taught, model, (x, y), losses = with_norms().double(), student(0).double(), toy(12), []
    x = x.double()
    for teacher in (taught, plain(taught)):
        method = Duet(threat=THREAT, teacher=teacher)
        method.fits(model)
        losses.append(method.loss(model, x, y, Step(50.0, y)))
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(taught(x), plain(taught)(x), rtol=1e-10, atol=1e-10)
    with torch.device("meta"):
        large, other, six = (Classifier(*arch(), 10, (0,) * 3, (1,) * 3) for arch in (cnn6c2f_bn, cnn4c3f, cnn6c2f))
    Duet(threat=THREAT, teacher=large).fits(six)
    with pytest.raises(
        ValueError, match=r"teacher has Conv2d\(32, 32, kernel_size=\(3, 3\).* network has Conv2d\(32, 32"
    ):
        Duet(threat=THREAT, teacher=large).fits(other)
    with pytest.raises(ValueError, match=r"teacher has no layer where the network has Linear\(in_features=16"):
        Duet(threat=THREAT, teacher=plain_without_head(student(5))).fits(student(0))
    with pytest.raises(ValueError, match="BatchNorm2d"):
        make("Duet").fits(classifier(0))


def plain_without_head(model: Classifier) -> Classifier:
    model.head = nn.Identity()
    return model


@pytest.mark.parametrize(
    "wrong",
    [
        {"threat": Threat()},
        {"rank": 1.5},
        {"lbd": -1},
        {"rotation": "C"},
        {"similarity": "angle"},
        {"ramp": 0},
        {"directions": 0},
        {"start": "random"},
        {"layers": "head"},
        {"similarity": "logits", "inputs": "shared"},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValidationError):
        Duet(**({"threat": THREAT} | wrong))


def test_defaults():
    method = make("Duet")
    values = (method.similarity, method.lbd, method.rotation, method.rank, method.project, method.inputs, method.layers)
    assert values == ("eq11", 0.1, "normalized", 0.5, True, "own", "all") and not method.through_norms
    assert (method.directions, method.start) == (None, "own")
    assert (method.warmup, method.ramp, method.kappa_final, method.power_iterations, method.steady_from_epoch) == (
        10,
        121,
        0,
        1,
        131,
    )


def run(epochs, rotation, state=None):
    method, (x, y) = make("Duet", warmup=1, ramp=2, rotation=rotation), toy(12)
    model = student(0)
    if state:
        model.load_state_dict(state["model"])
        method.restore(state["method"])
    training = Training(method, model, Recipe(epochs=4, batch_size=12, lr=0.05, momentum=0))
    for epoch in epochs:
        training.epoch([(x, y, y)] * 3, epoch)
    return model, method


@pytest.mark.parametrize("rotation", ["normalized", "rank_one", "block"])
def test_training_goes_on_from_its_state(rotation):
    whole, _ = run(range(4), rotation)
    half, method = run(range(2), rotation)
    state = method.state()
    names = {"body.0", "body.2", "body.5", "head"}
    kinds = {"normalized": (), "rank_one": ("teacher",), "block": ("teacher", "block")}[rotation]
    assert set(state) == names | {f"{kind}.{name}" for kind in kinds for name in names}
    for kept, same in ((state, True), ({}, False)):
        on, _ = run(range(2, 4), rotation, state={"model": half.state_dict(), "method": kept})
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), on.parameters(), strict=True)) is same


def test_operations_of_a_step():
    # Beside BCP's three streams and their backward: the teacher's pass, half of one for its rotations and, as the
    # student's outputs are told by half as many coordinates, a little.
    images = 64
    flops = {}
    for name in ("BCP", "Duet"):
        with torch.device("meta"):
            kind, model = find("crt.methods", name), Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3)
            teacher = Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3).requires_grad_(False)
            method = kind(threat=THREAT, teacher=teacher if kind.needs_teacher else None)
            x, y = torch.empty(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
        with Counter() as counter:
            method.loss(model, x, y, Step(500.0, y)).backward()
        flops[name] = counter.flops / forward_flops(cell("Standard", "cnn6c2f")) / images
    assert 1.5 < flops["Duet"] - flops["BCP"] < 1.8


def test_readings_of_similarity():
    model, (x, _) = student(0).double(), toy(24)
    x = x.double()
    same = similarity(model, model, x)
    assert list(same) == [f"M{k}" for k in range(1, 7)]
    assert list(same.values()) == pytest.approx([1.0] * 6)
    # Rotations know no scale, but what activations enter later layers is another's where biases are.
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for layer in (scaled.body[0], scaled.body[2], scaled.body[5], scaled.head):
            layer.weight *= 3
    assert similarity(scaled, model, x)["M1"] == pytest.approx(1) == similarity(scaled, model, x)["M3"]
    apart = similarity(student(1).double(), model, x)
    assert abs(apart["M1"]) < 0.2 and apart["M6"] == (1 + apart["M1"]) / 2 and 0 < apart["M5"] < 0.9
    assert similarity(with_norms().double(), model, x)["M4"] > 0


def test_readings_equal_their_restatements():
    a, b, (x, _) = student(0).double(), student(1).double(), toy(10)
    x, rows = x.double(), []
    with torch.no_grad():
        za, zb = a.normalize(x), b.normalize(x)
        for one, other in zip((*a.body, a.head), (*b.body, b.head), strict=True):
            if hasattr(one, "weight"):
                (_, p), (_, q) = leading(one.weight, 1.0), leading(other.weight, 1.0)
                act = lambda module, weight, z: torch.func.functional_call(  # noqa: E731
                    module, {"weight": weight, "bias": torch.zeros_like(module.bias)}, z).flatten(1)  # fmt: skip
                cos = lambda s, t: float(((s * t).sum(1) / s.norm(dim=1) / t.norm(dim=1)).mean())  # noqa: E731
                fa, fb = (one(za).flatten(1), other(zb).flatten(1))
                fa, fb = fa - fa.mean(0), fb - fb.mean(0)
                cka = (fb.T @ fa).norm() ** 2 / (fa.T @ fa).norm() / (fb.T @ fb).norm()
                rank = math.ceil(0.5 * min(p.flatten(1).shape))
                spans = [torch.linalg.svd(m.weight.flatten(1))[2][:rank].T.numpy() for m in (one, other)]
                overlap = float((torch.tensor(subspace_angles(*spans)).cos() ** 2).mean())
                turned = act(one, p, za)
                m1 = cos(p.flatten()[None], q.flatten()[None])
                rows.append([m1, cos(turned, act(other, q, zb)), cos(turned, act(other, q, za)), float(cka), overlap])
            za, zb = one(za), other(zb)
    expected = [sum(column) / 4 for column in zip(*rows, strict=True)]
    found = list(similarity(a, b, x).values())
    assert found[:5] == pytest.approx(expected, rel=1e-6) and len({round(value, 3) for value in found}) == 6


def test_arguments_of_ablations_are_absent_from_ids_at_their_defaults(tiny):
    teacher = "{arch: cnn2c2f, method: Standard, recipe: {epochs: 1, batch_size: 8, lr: 0.1}}"

    def ident(method):
        return tiny(method=method, threat="{norm: l2, eps: 0.1}", teacher=teacher).cells[0].method.id

    plain = ident("Duet")
    assert ident("{Duet: {start: own}}") == plain
    others = {ident(f"{{Duet: {{{change}}}}}") for change in ("start: teacher", "directions: 8", "layers: body")}
    assert len(others | {plain}) == 4
