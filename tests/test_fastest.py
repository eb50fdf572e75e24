"""`compute: fastest`: what a trial tries and chooses, what is kept of it, and the trainings and studies that use it."""

import json
import math
import signal
import threading
import time

import pytest
import torch
from golden.identities import PATHS
from stand_in_gpu import gpu
from test_ddp import run
from test_methods import METHODS
from test_reports import epoch as epoch_record
from test_reports import start as start_record

from bench.jobs import fastest, time_arms, train
from bench.jobs.lease import JobPaths
from bench.manifest import read_manifest
from bench.measure import choices
from bench.measure import trial as trials
from bench.measure.choices import resolved
from bench.measure.provenance import machines
from bench.measure.time_limit import TimeLimitError, time_limit
from bench.measure.trial import Outcome, trial
from bench.records import End, Epoch, Start, append, read
from bench.results.loading import load
from bench.results.ratios import mismatched_fields
from crt.training.loop import Training
from crt.training.recipe import EXACT

LAYOUT = {"fused": True, "fold": True}
STUDY = """
title: t
baseline: Standard
dataset: digits
loader: device
pipeline: plain
threat: {sigma: 0.25}
arch: cnn2c2f
timing: {runs: 1, rounds: 2, images: 32}
recipe: {epochs: 2, batch_size: 16, lr: 0.1, compute: fastest}
cells: [{method: Standard}, {method: Gaussian}]
"""


@pytest.fixture
def cell(tiny):
    return tiny(compute="fastest").cells[0]


@pytest.fixture
def at(tmp_path, digits) -> JobPaths:
    return JobPaths(runs=tmp_path / "runs", data=digits, process="shared")


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-compiler-of-this-name")


def outcome(switches: dict) -> Outcome:
    return Outcome(switches, {"plain": 0.1}, 8)


def tells(switches: dict, asked: list | None = None):
    """A trial that measures nothing and chooses these switches."""

    def trial(cell):
        if asked is not None:
            asked.append(cell.id)
        yield outcome(switches)

    return trial


def never(cell):
    raise AssertionError("no trial was needed")


def seconds(monkeypatch, times: dict[str, float]) -> None:
    """Let a batch take so many seconds by the choice, in words; other choices take 1."""
    monkeypatch.setattr(
        trials._Candidate, "time", lambda self, *_: times.get(trials.switches_in_words(self.switches), 1.0)
    )


# The trial


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({}, EXACT),
        ({"plain": 0.7}, {}),
        ({"plain": 0.985}, EXACT),
        ({"plain": 0.7, "fused, fold": 0.6}, LAYOUT),
        ({"channels_last, fused, fold": 0.5}, EXACT),
    ],
)
@pytest.mark.usefixtures("no_compiler")
def test_the_fastest_choice_wins_and_exact_unless_enough_is_saved(cell, monkeypatch, times, chosen):
    seconds(monkeypatch, times)
    (found,) = trial(cell)
    assert found.switches == chosen and set(found.seconds) == {"channels_last, fused, fold", "fused, fold", "plain"}
    assert found.images == 4  # four times as many would take more than a stage has


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("method", ["Standard", "FreeAT", "MACER"])
def test_a_fast_step_is_tried_on_the_whole_batch(tiny, monkeypatch, capsys, method):
    take = trials._Candidate.time

    def short(self, batch, repeats):
        take(self, batch, 1)
        return 1e-4

    monkeypatch.setattr(trials._Candidate, "time", short)
    monkeypatch.setattr(trials, "_ROUNDS", 1)
    (cell,) = tiny(compute="fastest", method=method, threat="{norm: linf, eps: 8/255, sigma: 0.25}").cells
    found = next(trial(cell))
    assert found.images == cell.recipe.batch_size and len(found.seconds) == 3
    assert "left out" not in capsys.readouterr().err


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("failing", ["plain", "channels_last, fused, fold"])
def test_a_choice_that_fails_is_left_out(cell, monkeypatch, capsys, failing):
    make = trials._Candidate.__init__

    def fail(self, cell, switches):
        make(self, cell, switches)
        if trials.switches_in_words(switches) == failing:
            raise RuntimeError("no kernel\nat all")

    monkeypatch.setattr(trials._Candidate, "__init__", fail)
    seconds(monkeypatch, {"fused, fold": 0.5})
    (found,) = trial(cell)
    assert found.switches == LAYOUT and failing not in found.seconds
    assert f"{cell.id}: {failing} is left out: no kernel\n" in capsys.readouterr().err


def test_if_every_choice_fails_the_error_says_what_is_allowed(cell, monkeypatch):
    monkeypatch.setattr(trials, "_Candidate", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=rf"{cell.id}: no choice of compute: fastest runs here \(allowed: compute: "):
        list(trial(cell))


def test_compiled_choices_start_from_the_fastest_without_a_compiler(cell, monkeypatch):
    made = []
    monkeypatch.setattr(choices, "_supported", lambda cell, choices: made.append(choices) or choices[:1])
    monkeypatch.setattr(trials, "_run", lambda cell, choices, images: Outcome(choices[-1], {str(len(made)): 1.0}, 8))
    stages = list(trial(cell))
    assert [each.switches for each in stages] == [EXACT, EXACT | {"cuda_graph": True}, made[2][0]]
    assert made[2] == [EXACT | {"cuda_graph": True, "compile": "default"}]
    assert stages[-1].seconds == {"1": 1.0, "2": 1.0, "3": 1.0}
    assert choices.compiled(cell, LAYOUT) == [LAYOUT | {"compile": "default"}]


def test_a_gpu_tries_graphs_and_a_stream_where_they_are_allowed(cell, monkeypatch):
    monkeypatch.setattr("crt.distributed.device", lambda: torch.device("cuda", 0))
    taught = cell.model_copy(update={"teacher": cell})
    stream = EXACT | {"teacher_stream": True}
    assert choices.eager(cell) == [EXACT, LAYOUT, {}]
    assert choices.eager(taught) == [EXACT, LAYOUT, stream, {}]
    graphs = [each | {"cuda_graph": True} for each in (EXACT, LAYOUT, stream)]
    assert choices.recorded(taught, EXACT) == graphs and choices.recorded(cell, EXACT) == graphs[:2]
    half = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"precision": "fp16"})})
    assert choices.recorded(half, EXACT) == []  # a recipe refuses to record fp16
    assert choices.recorded(cell.model_copy(update={"loop": "bare"}), EXACT) == []
    modes = [each["compile"] for each in choices.compiled(cell, EXACT)]
    assert modes in (["default", "reduce-overhead"], [])  # none without a compiler
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choices.recorded(cell, EXACT) == []


def test_precision_is_never_chosen(cell):
    low = cell.recipe.model_copy(update={"precision": "bf16"})
    for switches in choices.eager(cell):
        assert "precision" not in switches and resolved(low, switches).precision == "bf16"


@pytest.fixture(scope="module")
def digits_cells():
    """A cell of digits for every method that has one."""
    return {cell.method.name: cell for cell in reversed(read_manifest(PATHS["claims-digits"], networks=False).cells)}


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_tried(digits_cells, monkeypatch, name):
    if name not in digits_cells:
        pytest.skip("no cell of digits")
    monkeypatch.setattr(trials, "SECONDS", 0.0)
    torch.manual_seed(3)
    (found,) = trial(digits_cells[name])
    assert set(found.seconds) == {"channels_last, fused, fold", "fused, fold", "plain"}
    assert all(value > 0 for value in found.seconds.values())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert drawn == torch.rand(1)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("name", ["CRT", "SmoothAdv"])
def test_a_gpu_tries_steps_with_graphs_and_a_stream(digits_cells, monkeypatch, name):
    monkeypatch.setattr(trials, "SECONDS", 0.0)
    with gpu():
        first, last = trial(digits_cells[name])
    layouts = {"channels_last, fused, fold", "fused, fold"}
    stream = {"channels_last, fused, fold, teacher_stream"} if name == "CRT" else set()
    graphs = {"channels_last, fused, fold, cuda_graph", "fused, fold, cuda_graph"}
    graphs |= {"channels_last, fused, fold, cuda_graph, teacher_stream"} if stream else set()
    assert set(first.seconds) == {"plain", *layouts, *stream} and set(last.seconds) == set(first.seconds) | graphs
    assert first.images == last.images


def test_a_time_limit_stops_work_and_leaves_an_outer_alarm(monkeypatch):
    fired = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        with pytest.raises(TimeLimitError), time_limit(0.01):
            threading.Event().wait()
        assert 3000 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3600 and not fired
        with time_limit(3600):
            pass
        assert 3000 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3600
        # An outer alarm that was due in the meantime goes off right after.
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        with time_limit(3600):
            time.sleep(0.01)
        while not fired:
            time.sleep(1e-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_error_that_is_swallowed_is_raised_again():
    with pytest.raises(TimeLimitError), time_limit(0.01):
        try:
            threading.Event().wait()
        except BaseException:
            threading.Event().wait()


def test_work_that_cannot_be_stopped_is_not_begun():
    found = []

    def work():
        try:
            with time_limit(3600):
                found.append("begun")
        except TimeLimitError:
            found.append("refused")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["refused"]


def test_what_compiles_too_long_is_left_out(cell, monkeypatch, capsys):
    monkeypatch.setattr(trials, "COMPILING", 0.01)
    monkeypatch.setattr(trials._Candidate, "warm_up", lambda *_: threading.Event().wait())
    batch = trials._batch(cell, 4)
    assert trials._prepared(cell, EXACT | {"compile": "default"}, batch, 1) is None
    assert "is left out: compiling takes more than 0 s" in capsys.readouterr().err


# What is kept


def test_a_choice_is_kept_for_cells_alike(cell, at, monkeypatch):
    machine, asked = machines()[0], []
    monkeypatch.setattr(fastest, "trial", tells(LAYOUT, asked))
    assert fastest.choose(cell, at.runs, machine) == LAYOUT
    (file,) = (at.runs / "fastest").iterdir()
    assert json.loads(file.read_text())["switches"] == LAYOUT
    monkeypatch.setattr(fastest, "trial", never)
    longer = cell.recipe.model_copy(update={"epochs": 90, "lr": 0.5})
    for alike in (cell, cell.model_copy(update={"seed": 4}), cell.model_copy(update={"recipe": longer})):
        assert fastest.choose(alike, at.runs, machine) == LAYOUT
    monkeypatch.setattr(fastest, "trial", tells({}, asked))
    larger = cell.recipe.model_copy(update={"batch_size": 64})
    assert fastest.choose(cell.model_copy(update={"recipe": larger}), at.runs, machine) == {}
    assert fastest.choose(cell, at.runs, machine.model_copy(update={"device": "another"})) == {}
    assert len(asked) == 3 and len(list((at.runs / "fastest").iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"switches": {}}', b"\xff\xfe"])
def test_a_damaged_file_is_measured_anew(cell, at, monkeypatch, capsys, content):
    machine = machines()[0]
    monkeypatch.setattr(fastest, "trial", tells({}))
    fastest.choose(cell, at.runs, machine)
    (file,) = (at.runs / "fastest").iterdir()
    file.write_bytes(content)
    monkeypatch.setattr(fastest, "trial", tells(LAYOUT))
    assert fastest.choose(cell, at.runs, machine) == LAYOUT
    assert f"{file}: damaged; the choice is measured anew" in capsys.readouterr().err
    monkeypatch.setattr(fastest, "trial", never)
    assert fastest.choose(cell, at.runs, machine) == LAYOUT


def test_a_kept_choice_that_this_machine_lacks_is_measured_anew(cell, at, monkeypatch, capsys):
    machine = machines()[0]
    begun = [start_record().model_copy(update={"switches": {cell.id: {"cuda_graph": True}}})]
    monkeypatch.setattr(fastest, "trial", tells(LAYOUT))
    assert fastest.choose(cell, at.runs, machine, begun) == LAYOUT
    assert "the choice is measured anew: recipe.cuda_graph: true needs a GPU" in capsys.readouterr().err


def test_a_stage_that_ends_the_process_leaves_the_choice_before_it(cell, at, monkeypatch):
    def trial(cell):
        yield outcome(LAYOUT)
        raise KeyboardInterrupt

    monkeypatch.setattr(fastest, "trial", trial)
    machine = machines()[0]
    with pytest.raises(KeyboardInterrupt):
        fastest.choose(cell, at.runs, machine)
    monkeypatch.setattr(fastest, "trial", never)
    assert fastest.choose(cell, at.runs, machine) == LAYOUT


def test_only_fastest_is_tried(tiny, at, monkeypatch):
    monkeypatch.setattr(fastest, "trial", never)
    (cell,) = tiny(compute="plain").cells
    assert fastest.choose(cell, at.runs, machines()[0]) is None and not at.runs.exists()
    assert fastest.recipe_with(cell, None) is cell.recipe


# Trainings and studies


@pytest.mark.usefixtures("no_compiler")
def test_a_training_records_its_choice_and_trains_as_if_it_were_written(tiny, at, monkeypatch):
    monkeypatch.setattr(trials, "_MARGIN", math.inf)  # so that exact never gives way
    monkeypatch.setattr(trials, "SECONDS", 0.0)
    weights = []
    for choice in ("fastest", "exact"):
        (cell,) = tiny(compute=choice, method="Gaussian", epochs=2).cells
        train.run_cell(cell, at)
        weights.append(torch.load(at.runs / cell.id / "model.pt", weights_only=True))
        started, *records = read(at.runs / cell.id / "train.jsonl")
        assert isinstance(started, Start) and isinstance(records[-1], End)
        assert started.switches == ({cell.id: EXACT} if choice == "fastest" else {})
    # The trial draws numbers of its own, and leaves those of the training as they are.
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_resumed_training_goes_on_with_its_choice(cell, at, monkeypatch):
    used = []

    class Killed(Training):
        def epoch(self, batches, epoch):
            if epoch == 1 and len(used) == 1:
                raise RuntimeError("killed")
            return super().epoch(batches, epoch)

    monkeypatch.setattr(fastest, "trial", tells(LAYOUT))
    noting(monkeypatch, train, used, Killed)
    with pytest.raises(RuntimeError, match="killed"):
        train.run_cell(cell, at)
    for file in (at.runs / "fastest").iterdir():
        file.unlink()
    monkeypatch.setattr(fastest, "trial", never)
    train.run_cell(cell, at)
    records = read(at.runs / cell.id / "train.jsonl")
    assert [r.switches for r in records if isinstance(r, Start)] == [{cell.id: LAYOUT}] * 2
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [0, 1, 2]
    assert [(of.channels_last, of.fused, of.fold, of.compute) for of in used] == [(False, True, True, "stated")] * 2


def noting(monkeypatch, module, used: list, kind: type[Training] = Training) -> None:
    """Let a module's trainings note the recipes that they are made with."""

    def make(method, model, recipe):
        used.append(recipe)
        return kind(method, model, recipe)

    monkeypatch.setattr(module, "Training", make)


def both(rank: int, manifest, at: JobPaths) -> None:
    """Train on two ranks, of which the first alone makes a trial."""
    fastest.trial = never if rank else tells(LAYOUT)
    used: list = []
    with pytest.MonkeyPatch.context() as patch:
        noting(patch, train, used)
        train.run_cell(read_manifest(manifest).cells[0], at)
    assert [(recipe.channels_last, recipe.fused, recipe.fold) for recipe in used] == [(False, True, True)]


def test_rank_0_decides_for_all(tiny, at, tmp_path):
    (cell,) = tiny(compute="fastest", ranks=2, epochs=1).cells
    run(both, 2, tmp_path / "tiny.yaml", at)
    started, *records = read(at.runs / cell.id / "train.jsonl")
    assert started.world_size == 2 and started.switches == {cell.id: LAYOUT} and isinstance(records[-1], End)


def test_each_arm_of_a_study_has_its_own_choice(tmp_path, at, monkeypatch):
    (tmp_path / "m.yaml").write_text(STUDY)
    manifest = read_manifest(tmp_path / "m.yaml")
    choices = {"Standard": {}, "Gaussian": LAYOUT}
    monkeypatch.setattr(fastest, "trial", lambda cell: iter([outcome(choices[cell.method.name])]))
    used: list = []
    noting(monkeypatch, time_arms, used)
    time_arms.run_study(manifest.studies[0], 0, at)
    assert [recipe.fused for recipe in used] == [False, True]
    started = read(at.runs / manifest.studies[0].id / "run0" / "time.jsonl")[0]
    assert started.switches == {cell.id: choices[cell.method.name] for cell in manifest.cells}
    measured = load(manifest, [at.runs])
    assert [m.chosen for m in measured] == [[{}], [LAYOUT]]
    assert mismatched_fields(*measured) == ()  # each at its own best


def test_times_of_fastest_are_compared_with_fastest_alone(tiny, at):
    found = []
    for choice in ("exact", "fastest"):
        manifest = tiny(compute=choice)
        folder = at.runs / manifest.cells[0].id
        folder.mkdir(parents=True)
        append(folder / "train.jsonl", start_record())
        append(folder / "train.jsonl", epoch_record(manifest.cells[0].id, 1, 2.0, 128))
        found += load(manifest, [at.runs])
    with pytest.raises(ValueError, match="differ in channels_last: False, True"):
        mismatched_fields(*found)
    with pytest.raises(ValueError, match=r"differ in compute: fastest, stated \(--allow compute compares them"):
        mismatched_fields(*found, [*EXACT])
