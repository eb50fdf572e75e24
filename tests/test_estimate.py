"""Estimates: what they assume and print, the longest chain of jobs, and counts that are kept between commands."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from calls import CallTask
from test_reports import epoch, start
from typer.testing import CliRunner

from bench.build import cost, count_cache, counter
from bench.cell import Cell, Spec
from bench.manifest import read_manifest
from bench.plan import devices, estimate
from bench.plan.waves import waves
from bench.records import append
from bench.submit import app
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.recipe import Recipe
from launchers.task import Job, TaskProgress, Wave, unfinished

ROOT = Path(__file__).parents[1]
RECIPE = Recipe(epochs=5, batch_size=32, lr=0.1)
CHAIN = "cnn4c3f"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A cache that holds nothing, on disk and in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget = count_cache._known.cache_clear, count_cache.counter_version.cache_clear
    count_cache._known.cache_clear()
    yield tmp_path / "cache" / "robust-training-bench"
    for clear in forget:
        clear()


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
    found = {c.id: c for cell in read_manifest(ROOT / "manifests" / table).cells for c in (cell, *cell.lineage)}
    assert cost.work(found[key]) == (flops, traffic)
    assert cost.forward_flops(found[key]) == forward


def test_results_are_written_once_and_memory_without_values_moves_nothing():
    x, bytes_of_x = torch.empty(6, 8, device="meta"), 6 * 8 * 4
    with counter.Counter() as counted:
        out = torch.empty_like(x)
        x.new_empty(3), torch.empty(2, device="meta"), x.flatten()
    assert counted.traffic == 0
    calls = [
        (lambda: torch.mul(x, x), 3),
        (lambda: torch.mul(x, x, out=out), 3),
        (lambda: out.mul_(x), 3),
        (lambda: torch.ops.aten.threshold_backward.grad_input(out, x, 0, grad_input=out), 3),
    ]
    for call, times in calls:
        with counter.Counter() as counted:
            call()
        assert counted.traffic == times * bytes_of_x


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
    found |= {"teacher_input_backwards": 0.0}
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
    assert set((ROOT / "crt").rglob("*.py")) < set(files) and ROOT / "bench" / "build" / "counter.py" in files
    for changed in (ROOT / "crt" / "methods" / "crt.py", ROOT / "bench" / "build" / "counter.py", Path(crt.__file__)):
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
from bench.build import count_cache
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
from bench.build import cost
from bench.plan import devices, estimate
from bench.jobs.lease import JobPaths
from bench.cell import Cell
from bench.jobs.tasks import EvaluateTask, TrainTask
from launchers.task import Job, TaskProgress
one, other = map(Cell.model_validate, json.loads(Path(sys.argv[1]).read_text()))
place = JobPaths(runs=Path("none"), data=Path("none"), process="fresh")
tasks = [TrainTask(cell=one, place=place), EvaluateTask(cell=other, shard=0, shards=1, place=place)]
jobs = [Job(task=task, progress=TaskProgress()) for task in tasks]
cost.prepare(count for job in jobs for count in estimate.counts(job))
known = estimate.rates(Path("none"), devices.here())
print(*(estimate.expected(job, devices.here(), known).seconds > 0 for job in jobs))
print(*({"torch", "pandas", "scipy", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cells.json"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == "True True\n\n"


def job(name: str, done: bool = False) -> Job:
    return Job(task=CallTask(name=name), progress=TaskProgress(finished=done))


WAVES = [
    (("data/d",), None),
    (("time/all",), 0),
    (("train/t1", "train/t2"), 0),
    (("train/s",), 2),
    (("judge/t1", "judge/t2"), 2),
    (("judge/s",), 3),
]
SECONDS = {"data/d": 1, "time/all": 20, "train/t1": 5, "train/t2": 10, "train/s": 30}
SECONDS |= {"judge/t1": 25, "judge/t2": 5, "judge/s": 2}


@pytest.mark.parametrize(
    ("done", "chain"),
    [
        ((), "data/d train/t2 train/s judge/s"),
        (("data/d", "train/t2"), "train/t1 train/s judge/s"),
        (("train/s",), "data/d train/t2 judge/t1"),
        (("train/s", "judge/t1"), "data/d time/all"),
        (("data/d", "train/t1", "train/t2", "train/s", "judge/t1"), "time/all"),
        (tuple(SECONDS), ""),
    ],
)
def test_the_longest_chain_follows_what_waits_for_what(done, chain):
    found = [
        Wave(name=str(number), jobs=tuple(job(name, name in done) for name in names), after=after)
        for number, (names, after) in enumerate(WAVES)
    ]
    assert [one.task.key for one in estimate.longest_chain(found, SECONDS)] == chain.split()


def test_no_jobs_are_no_chain():
    assert estimate.longest_chain([], {}) == []


DIGITS = """
title: digits
dataset: digits
pipeline: plain
threat: {sigma: 0.25}
recipe: {epochs: 3, batch_size: 32, lr: 0.01}
cells:
  - {name: t, method: Standard, arch: cnn2c2f}
  - {method: CRT, arch: cnn2c2f, teacher: {cell: t}, recipe: {epochs: 3, batch_size: 32, lr: 0.01, precision: bf16}}
evals: [Clean]
"""


@pytest.fixture
def dry(tmp_path):
    """Output of a dry run, and its exit code."""
    (tmp_path / "m.yaml").write_text(DIGITS)

    def run(*options: str, launcher: str = "local"):
        where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--dry-run", "--launcher", launcher]
        return CliRunner().invoke(app, [*where, *options])

    return run


def test_a_dry_run_tells_the_device_the_sum_and_the_longest_chain(dry):
    result = dry("--device", "h100")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    figures = "h100: 99 TFLOP/s = 10 % of 989.4 peak (bf16); 13 TFLOP/s = 20 % of 67 peak (fp32)."
    assert f"Estimates: counted operations at the speed of {figures}" in words
    assert "In all: " in words and "GPU-" in words
    chain = words.split("Longest chain")[1].split("Estimates:")[0]
    assert [chain.count(word) for word in ("train/cnn2c2f-Standard", "train/cnn2c2f-CRT", "judge/cnn2c2f-CRT")] == [
        1
    ] * 3
    assert " 0 " not in words.split("wave")[1]


def test_devices_differ_as_their_figures_do(dry, tmp_path):
    manifest = read_manifest(tmp_path / "m.yaml")
    place = SimpleNamespace(runs=tmp_path / "runs", data=tmp_path)
    jobs = [job for job in unfinished(waves(manifest, place)) if job.task.key.startswith("train/cnn2c2f-Standard")]
    slow, fast = (estimate.expected(jobs[0], devices.speed(name), {}) for name in ("cpu", "a100"))
    assert slow.seconds / fast.seconds == pytest.approx(19.5 / 0.2) and not slow.recorded
    flops = cost.step_flops(manifest.cells[0])
    assert slow.seconds == pytest.approx(flops * 1437 * 3 / 40e9)


@pytest.mark.parametrize("name", ["b200", "A100", "", "NVIDIA H100 80GB HBM3", "8"])
def test_an_unknown_device_is_refused_before_the_manifest_is_read(dry, monkeypatch, name):
    monkeypatch.setattr("bench.plan.submission.read_manifest", lambda *_: pytest.fail("read"))
    result = dry("--device", name)
    assert result.exit_code == 2
    assert f"--device {name}: unknown (allowed: cpu, v100, a100, h100, h200, rtx4090)" in result.output


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("{}", "cpu: 0.04 TFLOP/s = 20 % of 0.2 peak (fp32)"),
        ("gpus_per_rank: 1", "a100: 31 TFLOP/s = 10 % of 312 peak (bf16); 3.9 TFLOP/s = 20 % of 19.5 peak (fp32)"),
        (
            "device: NVIDIA H200",
            "NVIDIA H200: 99 TFLOP/s = 10 % of 989.5 peak (bf16); 13 TFLOP/s = 20 % of 67 peak (fp32)",
        ),
        ("device: v100", "v100: 3.1 TFLOP/s = 20 % of 15.7 peak (fp32)"),
        ("{device: NVIDIA H200, tflops: 7.5}", "NVIDIA H200: 7.5 TFLOP/s, the profile's tflops"),
        ("tflops: 2", "profile: 2 TFLOP/s, the profile's tflops"),
    ],
)
def test_a_profile_names_the_device(dry, tmp_path, profile, words):
    (tmp_path / "p.yaml").write_text(profile)
    result = dry("--profile", str(tmp_path / "p.yaml"), launcher="slurm")
    assert result.exit_code == 0 and f"the speed of {words}" in " ".join(result.output.split()), result.output
    asked = dry("--profile", str(tmp_path / "p.yaml"), "--device", "h100", launcher="slurm")
    assert "the speed of h100: " in " ".join(asked.output.split())


def test_more_gpu_hours_than_allowed_are_refused_in_the_same_words(dry):
    result = dry("--device", "a100", "--max-gpu-hours", "0")
    amount = next(line for line in result.output.splitlines() if line.startswith("In all: ")).removeprefix("In all: ")
    assert result.exit_code == 2
    assert f"--max-gpu-hours 0: {amount.rstrip('.')} are expected, which is more" in " ".join(result.output.split())


def test_records_of_the_device_tell_and_of_others_do_not(dry, tmp_path):
    one = read_manifest(tmp_path / "m.yaml").cells[0]
    device, flops = "NVIDIA A100-SXM4-80GB", {one.id: 1e9}
    records = [start(device=device, flops=flops, world_size=2, traffic={}, passes={})]
    records += [epoch(one.id, number, seconds, 1000) for number, seconds in enumerate((9.0, 1.0, 4.0))]
    folder = tmp_path / "runs" / one.id
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(record.model_dump_json(by_alias=True) + "\n" for record in records))
    found = estimate.rates(tmp_path / "runs", devices.speed("a100"))
    assert found == {"cnn2c2f-Standard": 1e9 * 1000 / 1.0 / 2}
    assert estimate.rates(tmp_path / "runs", devices.speed("h100")) == {}
    text = " ".join(dry("--device", "a100").output.split())
    assert "Records: epochs on a100 in the runs folder." in text and "Estimates: " in text


HEADS = {
    path: path.read_text() for path in sorted((ROOT / "manifests").rglob("*.yaml")) if "--device" in path.read_text()
}


@pytest.mark.parametrize("path", HEADS, ids=lambda path: str(path.relative_to(ROOT / "manifests")))
def test_hours_at_the_head_of_a_manifest_are_those_that_are_printed(path):
    head = " ".join(line.lstrip("# ") for line in HEADS[path].splitlines() if line.startswith("#"))
    hours, name, device = re.search(r"about ([\d.]+) GPU-hours on an (\w+) \(--device (\w+)\)", head).groups()
    assert name.lower() == device
    place = SimpleNamespace(runs=Path("none"), data=Path("none"))
    jobs = [job for wave in waves(read_manifest(path), place) for job in wave.jobs]
    total = sum(estimate.expected(job, devices.speed(device), {}).seconds * job.task.ranks for job in jobs)
    assert total / 3600 == pytest.approx(float(hours), abs=0.5 * 10 ** -len(hours.partition(".")[2]), rel=0.01)


def test_progress_is_one_line_where_stderr_is_no_terminal_and_nothing_when_all_is_kept(empty, capsys):
    for expected in ("counting operations, which are kept for next time: 2 counts\n", ""):
        cost.prepare([cost.step(cell()), cost.step(cell(seed=3)), cost.forward(cell())])
        assert capsys.readouterr().err == expected


def test_progress_on_a_terminal_is_a_bar_that_names_what_is_counted(empty, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cost.prepare([cost.step(cell(method=Spec(name="Standard", label="[x] MACER", id="M")))])
    assert f"counting operations 0/1: {CHAIN} [x] MACER" in capsys.readouterr().err


def test_a_network_that_fits_is_not_built_again_and_one_that_does_not_is_refused_again(empty, tmp_path):
    code = "import sys; from pathlib import Path; from bench.manifest.read import read; read(Path(sys.argv[1]))"
    code += "; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, ROOT / "manifests" / "rrm" / "table1.yaml"]
    told = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout for _ in range(2)]
    assert told == ["True\n", "False\n"]
    text = DIGITS.replace("method: CRT, arch: cnn2c2f", "method: Standard, arch: resnet20").replace(
        ", teacher: {cell: t}", ""
    )
    (tmp_path / "m.yaml").write_text(text.replace("[Clean]", "[CROWN]").replace("sigma: 0.25", "eps: 0.1"))
    for _ in range(2):
        with pytest.raises(ValueError, match="resnet20: "):
            read_manifest(tmp_path / "m.yaml")


def test_a_record_without_a_count_tells_no_rate(tmp_path):
    for name, flops in (("cnn4c3f-Standard-s0-1", {}), ("cnn4c3f-Standard-s0-2", {"cnn4c3f-Standard-s0-2": 0.0})):
        file = tmp_path / "runs" / name / "train.jsonl"
        append(file, start(flops=flops))
        append(file, epoch(name, 1, 2.0, 100))
    assert estimate.rates(tmp_path / "runs", devices.here()) == {}
