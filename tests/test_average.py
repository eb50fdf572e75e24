"""Averages of the weights: their formula, skipped steps, recordings, resumed jobs, and which weights are kept."""

import pytest
import torch
from test_graph import Traced, held, traced  # noqa: F401  # a fixture
from test_methods import classifier, toy
from test_run import place, weights

from bench.build.cost import work
from bench.build.networks import evaluation, trained
from bench.jobs import train
from bench.jobs.checkpoints import _problem
from bench.jobs.evaluate import image
from bench.jobs.monitor import Monitor
from bench.manifest import read_manifest
from bench.manifest.restated import restated_studies
from bench.records import MonitorPoint, read
from crt.evals.base import judge_each
from crt.methods.standard import Standard
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Average, Recipe

RECIPE = Recipe(epochs=2, batch_size=12, lr=0.05, weight_decay=1e-3)
AVERAGED = "{epochs: 3, batch_size: 32, lr: 0.05, average: {decay: 0.9}}"
MANIFEST = """
dataset: digits
pipeline: plain
loader: device
images: 128
threat: {{norm: linf, eps: 4/255}}
arch: cnn2c2f
recipe: {recipe}
{head}
cells: [{{method: Standard, monitor: {{images: 40, evals: [PGD: {{steps: 2}}]}}}}]
"""


def averaged(decay: float = 0.5, **changes) -> Recipe:
    return RECIPE.model_copy(update={"average": Average(decay=decay), **changes})


def training(recipe: Recipe, double: bool = True) -> Training:
    model = classifier(0).train()
    return Training(Standard(threat=Threat()), model.double() if double else model, recipe)


def batches(count: int = 8) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    x, y = toy(12 * count)
    return [(x[12 * k :][:12].double(), y[12 * k :][:12], torch.arange(12)) for k in range(count)]


@pytest.mark.parametrize("decay", [0.15, 0.3, 0.99])
def test_the_average_is_that_of_the_formula_and_moves_nothing(decay):
    plain, kept = training(RECIPE), training(averaged(decay))
    mean = {name: tensor.clone() for name, tensor in plain.weights.items()}
    for t, batch in enumerate(batches()):
        for each in (plain, kept):
            each.epoch([batch], 0)
        d = min(decay, (1 + t) / (10 + t))
        for name, tensor in plain.weights.items():
            mean[name] = d * mean[name] + (1 - d) * tensor if tensor.is_floating_point() else tensor.clone()
    live = kept.model.state_dict()
    assert all(torch.equal(live[name], tensor) for name, tensor in plain.weights.items())
    assert kept.weights.keys() == mean.keys() and float(kept.average.steps) == 8
    for name, tensor in kept.weights.items():
        torch.testing.assert_close(tensor, mean[name], rtol=1e-12, atol=1e-14)
    assert not torch.equal(kept.weights["head.weight"], live["head.weight"])


def test_a_step_that_overflows_is_not_counted():
    made = training(averaged(precision="fp16"), double=False)
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {name: tensor.clone() for name, tensor in made.weights.items()}
    parameters = [name for name, _ in made.model.named_parameters()]
    steps = []
    for x, y, index in batches(1) * 40:
        made.epoch([(x.float(), y, index)], 0)
        steps.append(float(made.average.steps))
        if steps[-1] == 0:
            assert all(torch.equal(made.weights[name], before[name]) for name in parameters)
    first = steps.index(1)
    assert first > 0 and steps[first:] == [float(k + 1) for k in range(40 - first)]
    assert not torch.equal(made.weights["head.weight"], before["head.weight"])


def test_recorded_steps_average_the_same(traced):  # noqa: F811
    found = []
    for recipe in (averaged(fused=True), averaged(cuda_graph=True)):
        made = training(recipe)
        if recipe.cuda_graph:
            assert isinstance(made.update.recorder, Traced)
            made.update.recorder.changed = lambda made=made: [
                *made.model.state_dict().values(),
                *held(dict(made.optimizer.state)),
                *made.weights.values(),
                made.average.steps,
            ]
        for epoch in range(2):
            made.epoch(batches(4), epoch)
        found.append(made.weights)
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-6, atol=1e-7)


@pytest.fixture
def cell(tmp_path):
    def make(recipe: str = AVERAGED):
        path = tmp_path / "averaged.yaml"
        path.write_text(MANIFEST.format(recipe=recipe, head=""))
        return read_manifest(path).cells[0]

    return make


class Killed(BaseException):
    pass


def test_a_resumed_job_averages_the_same_bits(cell, digits, tmp_path, monkeypatch):
    averages, at = cell(), place(tmp_path / "whole", digits)
    train.run_cell(averages, at)
    again, save = place(tmp_path / "killed", digits), train._checkpoint

    def killed(checkpoints, state, record):
        save(checkpoints, state, record)
        if record.epoch == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "_checkpoint", killed)
        train.run_cell(averages, again)
    train.run_cell(averages, again)
    one, two = weights(averages, at.runs), weights(averages, again.runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    plain = cell(recipe=AVERAGED.replace(", average: {decay: 0.9}", ""))
    assert plain.id != averages.id
    train.run_cell(plain, at)
    assert not torch.equal(weights(plain, at.runs)["head.weight"], one["head.weight"])


def test_the_average_is_monitored_and_kept(cell, digits, tmp_path):
    averages, at = cell(), place(tmp_path / "runs", digits)
    train.run_cell(averages, at)
    *_, last = [r for r in read(at.runs / averages.id / "train.jsonl") if isinstance(r, MonitorPoint)]
    model, monitor = trained(averages, at.runs).eval(), Monitor(averages, at)
    spec, labels = averages.monitor.evals[0], monitor.images.labels
    asked = ((image(monitor.images, i), int(labels[i]), (averages.seed, i)) for i in range(40))
    found = list(judge_each(evaluation(averages, spec), model, asked))
    assert sum(j.prediction == labels[i] for i, j in enumerate(found)) / 40 == last.right


def test_a_checkpoint_without_the_average_is_not_resumed_from(cell, digits, tmp_path, monkeypatch):
    saved = {}
    monkeypatch.setattr(train.Checkpoints, "save", lambda _, state: saved.update(state))
    averages = cell()
    train.run_cell(averages, place(tmp_path / "runs", digits))
    assert _problem(saved, averages, 1) is None
    whole = saved.pop("average")
    assert _problem(saved, averages, 1) == "damaged: lacks average"
    wrong = {"weights": whole["weights"] | {"head.bias": torch.zeros(3)}, "steps": whole["steps"]}
    assert "average: head.bias has shape (3,)" in _problem(saved | {"average": wrong}, averages, 1)
    assert "holds no number of steps" in _problem(saved | {"average": {"weights": {}}}, averages, 1)


def test_the_average_moves_bytes_and_takes_no_products(cell):
    averages, plain = work(cell()), work(cell(recipe="{epochs: 3, batch_size: 32, lr: 0.05}"))
    assert averages.flops == plain.flops and averages.traffic > plain.traffic


@pytest.mark.parametrize("key", ["average: {decay: 0.9}", "label_smoothing: 0.1"])
def test_hand_written_loops_have_neither_averages_nor_smoothed_labels(key, tmp_path):
    recipe, path = f"{{epochs: 1, batch_size: 32, lr: 0.1, {key}}}", tmp_path / "study.yaml"
    path.write_text(MANIFEST.format(recipe=recipe, head="timing: {runs: 1, rounds: 1}\nbaseline: Standard"))
    assert restated_studies(read_manifest(path)) == []
    path.write_text(path.read_text().replace("method: Standard,", "method: Standard, loop: bare,"))
    with pytest.raises(ValueError, match=rf"recipe\.{key.partition(':')[0]}: given with loop: bare"):
        read_manifest(path)
