"""Estimates: what they assume and print, the longest chain of jobs, and counts that are kept between commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench import cost, count_cache, counter, devices, estimate
from bench import manifest as manifests
from bench.cells import Cell, Spec
from bench.plan import waves
from bench.records import Epoch, Start
from bench.submit import app
from crt.plugins import find, plugins
from crt.recipe import Recipe
from crt.threat import Threat
from launchers.job import Job, Wave

ROOT = Path(__file__).parents[1]
RECIPE = Recipe(epochs=5, batch_size=32, lr=0.1)
CHAIN = "cnn4c3f"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A cache that holds nothing, on disk and in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    count_cache._known.cache_clear()
    yield tmp_path / "cache" / "robust-training-bench"
    count_cache._known.cache_clear()
    count_cache.counter_version.cache_clear()


def cell(name: str = "Standard", **changes) -> Cell:
    kind = find("crt.methods", name)
    teacher = cell() if kind.needs_teacher else None
    values = {
        "dataset": "cifar10",
        "pipeline": "crt",
        "loader": "torch",
        "arch": CHAIN,
        "method": Spec(name=name, args={}, label=name, id=name),
        "threat": Threat(sigma=0.25, eps=0.1),
        "recipe": RECIPE,
        "teacher": teacher,
    }
    return Cell(**values | changes)


# Counted before anything was kept, by two nested modes of torch: operations and bytes of a trained image.
COUNTED = json.loads((Path(__file__).parent / "counted.json").read_text())


@pytest.mark.parametrize(("table", "index"), [(table, k) for table, rows in COUNTED.items() for k in range(len(rows))])
def test_counts_are_those_of_torchs_own_counter(table, index):
    key, flops, traffic, forward = COUNTED[table][index]
    found = {c.id: c for cell in manifests.read(ROOT / "manifests" / table).cells for c in (cell, *cell.lineage)}
    assert cost.work(found[key]) == (flops, traffic)
    assert cost.forward_flops(found[key]) == forward


def test_a_grouped_convolutions_backward_counts_its_groups():
    with counter.Counter() as counted:
        x = torch.empty(2, 8, 6, 6, device="meta", requires_grad=True)
        layer = torch.nn.Conv2d(8, 12, 3, groups=4, bias=False, device="meta")
        layer(x).sum().backward()
    assert counted.flops == 3 * 2 * 2 * 12 * 4 * 4 * (8 // 4) * 9


def test_operations_that_are_done_once_count_each_time_and_leave_tensors_of_their_own():
    with counter.Counter() as counted, torch.device("meta"):
        one, other = torch.empty(3, 5), torch.empty(5, 7)
        first, second = one @ other, one @ other
        assert first is not second and first.shape == second.shape == (3, 7)
        split = [part.shape for part in torch.var_mean(one, dim=1)]
        assert split == [part.shape for part in torch.var_mean(one, dim=1)]
    assert counted.flops == 2 * 2 * 3 * 5 * 7


@pytest.mark.parametrize("name", sorted(plugins("crt.methods")))
def test_what_does_not_alter_a_step_shares_its_count(name, empty):
    """Counted anew for a cell that differs in everything else, and equal."""
    schedule = {"schedule": "multistep", "milestones": (2,), "optimizer": "adam", "weight_decay": 1e-4}
    changes = {
        "recipe": RECIPE.model_copy(update={"epochs": 9, "lr": 0.7, "precision": "bf16", "batch_size": 64} | schedule),
        "seed": 7,
        "ranks": 2,
        "loader": "device",
        "images": 1000,
        "evals": (Spec(name="Clean", label="Clean", id="Clean"),),
    }
    one, other = cell(name), cell(name, **changes)
    assert cost.step(one).key == cost.step(other).key
    before = torch.get_rng_state()
    assert counter.count_step(one) == counter.count_step(other) == tuple(cost.work(one))
    assert torch.equal(before, torch.get_rng_state()), "what is trained afterwards must not depend on counting"
    assert cost.step(cell(name, recipe=RECIPE.model_copy(update={"batch_size": 64}))).key != cost.step(one).key
    assert cost.step(cell(name, threat=Threat(sigma=0.5, eps=0.1))).key != cost.step(one).key


def test_passes_do_not_depend_on_images_and_networks(empty):
    large = {"dataset": "imagenet", "arch": "imagenet_resnet50"}
    one, other = cell("CRT"), cell("CRT", **large, teacher=cell(**large))
    assert cost.passes(one).key == cost.passes(other).key
    found = {"forwards": 1.0, "teacher_forwards": 1.0, "input_backwards": 0.0, "backwards": 1.0}
    assert cost.passes(other).answer() == found


def kept_lines(folder: Path) -> list[str]:
    (file,) = folder.glob("counts-*.jsonl")
    return [line for line in file.read_text().splitlines() if line]


def test_kept_counts_are_used_by_the_next_command(empty, monkeypatch):
    found = cost.work(cell())
    assert len(kept_lines(empty)) == 1
    count_cache._known.cache_clear()
    monkeypatch.setattr(counter, "count_step", lambda _: pytest.fail("counted again"))
    assert cost.work(cell()) == found


def test_counts_of_other_sources_are_not_used(empty, monkeypatch):
    cost.work(cell())
    for number in range(20):
        count_cache._known.cache_clear()
        monkeypatch.setattr(count_cache, "counter_version", lambda number=number: f"version{number}")
        monkeypatch.setattr(counter, "count_step", lambda _, number=number: (float(number), 2.0))
        assert cost.work(cell()) == (number, 2.0)
    assert len(list(empty.glob("*"))) == count_cache._VERSIONS


def test_the_version_is_one_of_every_source_that_counts(empty, monkeypatch):
    import crt

    files, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: files.append(path) or read(path))
    count_cache.counter_version.cache_clear()
    mine = count_cache.counter_version()
    assert set((ROOT / "crt").rglob("*.py")) < set(files) and ROOT / "bench" / "counter.py" in files
    for changed in (ROOT / "crt" / "methods" / "crt.py", ROOT / "bench" / "counter.py", Path(crt.__file__)):
        monkeypatch.setattr(Path, "read_bytes", lambda path, changed=changed: read(path) + b" " * (path == changed))
        count_cache.counter_version.cache_clear()
        assert count_cache.counter_version() != mine, changed
    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(count_cache, "version", lambda package: "0.0")
    count_cache.counter_version.cache_clear()
    assert count_cache.counter_version() != mine


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: "",
        lambda line: line[: len(line) // 2],
        lambda line: line.replace("4", "5"),
        lambda line: "\0\xff" * 50,
        lambda line: "[]\n1\nnull\n{}\n[1, 2, 3]\n" + "[" * 100_000,
        lambda line: line[: len(line) // 2] + "\n" + line[len(line) // 2 :],
    ],
)
def test_a_damaged_cache_is_counted_anew_and_mended(empty, damage):
    found, (line,) = cost.work(cell()), kept_lines(empty)
    (file,) = empty.glob("*")
    file.write_text(damage(line), encoding="latin-1")
    for _ in range(2):
        count_cache._known.cache_clear()
        assert cost.work(cell()) == found
    count_cache._known.cache_clear()
    assert not count_cache.missing(cost.step(cell()).key)


@pytest.mark.parametrize("kind", ["a file in its place", "a folder in the file's place", "no home", "a relative path"])
def test_a_cache_that_cannot_be_written_fails_nothing(empty, tmp_path, monkeypatch, kind):
    found = cost.work(cell())
    count_cache._known.cache_clear()
    if kind == "a file in its place":
        (tmp_path / "taken").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    elif kind == "a folder in the file's place":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        count_cache._file().mkdir(parents=True)
    elif kind == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "here")
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cost.work(cell()) == found
    assert not Path("here").exists()


def test_processes_keep_counts_at_once(empty):
    code = """
import sys
from bench import count_cache
for number in range(200):
    count_cache.kept(f"{sys.argv[1]} {number}", lambda: {"flops": float(number), "long": 1 / 3})
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(who)], cwd=ROOT) for who in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    count_cache._known.cache_clear()
    assert len(count_cache._known()) == len(kept_lines(empty)) == 800


def test_estimating_with_kept_counts_imports_no_torch(empty, tmp_path):
    arms = (cell(), cell("CRT", evals=(Spec(name="Clean", label="Clean", id="Clean"),)))
    cost.prepare([*map(cost.step, arms), cost.forward(arms[1]), cost.judging(arms[1], arms[1].evals[0])])
    (tmp_path / "cells.json").write_text(json.dumps([arm.model_dump(mode="json") for arm in arms]))
    code = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from bench import cost, devices, estimate
from bench.cells import Cell
from launchers.job import Job
one, other = map(Cell.model_validate, json.loads(Path(sys.argv[1]).read_text()))
place = SimpleNamespace(data=Path("none"))
jobs = [
    Job(name=f"train/{one.id}", ranks=1, nodes=1, function=print, args=(one, place), records=Path("none")),
    Job(name=f"judge/{other.id}", ranks=1, nodes=1, function=print, args=(other, 0, 1, place), records=Path("none")),
]
cost.prepare(count for job in jobs for count in estimate.counts(job))
known = estimate.rates(Path("none"), devices.here())
print(*(estimate.expected(job, devices.here(), known).seconds > 0 for job in jobs))
print(*({"torch", "pandas", "scipy", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "cells.json"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == "True True\n\n"


def job(name: str, done: bool = False) -> Job:
    return Job(name=name, ranks=1, nodes=1, function=print, args=(None,), records=Path("none"), done=done)


@pytest.mark.parametrize(
    ("finished", "chain"),
    [
        ("", "data train/t2 train/s1"),
        ("train/t2", "data train/t1 train/s1"),
        ("train/s1", "data train/t2 judge/t2"),
        ("train/s1 judge/t1 judge/t2", "data train/t2 judge/s"),
        ("data train/t1 train/t2 train/s1 judge/t1 judge/t2 judge/s", "time"),
    ],
)
def test_the_longest_chain_follows_what_waits_for_what(finished, chain):
    seconds = {"data": 1, "time": 20, "train/t1": 5, "train/t2": 10, "train/s1": 30, "judge/t1": 25, "judge/t2": 5}
    seconds |= {"judge/s": 1}
    waves = [(["data"], None), (["time"], 0), (["train/t1", "train/t2"], 0), (["train/s1"], 2), (["judge/t1"], 2)]
    waves = [(["judge/t1", "judge/t2"], 2) if jobs == ["judge/t1"] else (jobs, after) for jobs, after in waves]
    waves += [(["judge/s"], 3)]
    if "s1" not in finished:
        seconds["judge/t1"] = 2
    else:
        seconds["judge/t1"] = 3
    found = [
        Wave(name=str(k), jobs=tuple(job(name, name in finished.split()) for name in names), after=after)
        for k, (names, after) in enumerate(waves)
    ]
    if finished.startswith("train/s1 judge"):
        seconds["judge/s"] = 15
    found = [wave for wave in found]
    names = [one.name for one in estimate.longest_chain(found, seconds)]
    expected = {"": ["judge/s"], "train/t2": ["judge/s"]}.get(finished, [])
    assert names == chain.split() + expected


def test_no_jobs_are_no_chain():
    assert estimate.longest_chain([], {}) == []
