"""Disks that are full, folders that others own: one message that names the file, and the same command goes on."""

import errno
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.build import count_cache
from bench.build.weights import load, save
from bench.commands import smoothing_tsv
from bench.commands.smoothing_tsv import Row
from bench.jobs import train
from bench.jobs.lease import JobPaths
from bench.records import End, Epoch, append, read
from crt.data import DATASETS
from crt.data.beton import app as data
from crt.disk import append_line, replacing
from crt.training.precision import compiler_cache
from launchers.ledger import Ledger, entry
from reports.__main__ import app as report

ROOT = Path(__file__).parents[1]
as_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk, and running as another user, needs root")
NOBODY = 65534


class Disk:
    """A disk of 8 MB."""

    def __init__(self, folder: Path):
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, left: int = 0) -> None:
        """Fill it up to `left` bytes."""
        with open(self._filler, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(file.tell() - left)

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


ROW = Row(idx=1, label=2, predict=3, radius=0.5, time=1.0)
APPENDERS: dict[str, Callable[[Path], object]] = {
    "line": lambda folder: append_line(folder / "file", b"x" * 7000 + b"\n"),
    "record": lambda folder: append(folder / "file", End(time=1.0)),
    "ledger": lambda folder: note(folder / "file"),
    "table": lambda folder: smoothing_tsv.append(folder / "file", ROW),
}


def note(file: Path) -> None:
    ledger = Ledger(file.parent)
    ledger.file = file
    ledger.note(entry("tag", "cluster", ("job",) * 3000))


@as_root
@pytest.mark.parametrize("kind", APPENDERS)
def test_full_disk_tears_no_line(kind, disk):
    file, write = disk.folder / "file", APPENDERS[kind]
    write(disk.folder)
    whole = file.read_bytes()
    # The next line has room for its beginning only.
    disk.fill(0)
    with pytest.raises(OSError) as full:
        for _ in range(200):
            write(disk.folder)
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(file))
    held = file.read_bytes()
    disk.empty()
    write(disk.folder)
    if kind == "ledger":  # reading skips what is no entry
        ledger = Ledger(disk.folder)
        ledger.file = file
        assert len(list(ledger._lines())) == held.count(b"\n") + 1
    else:
        lines = file.read_bytes().splitlines(keepends=True)
        assert held.endswith(b"\n") and set(lines) == {whole} and len(lines) == held.count(b"\n") + 1


@as_root
def test_full_disk_keeps_the_former_file_and_makes_room(disk):
    path = disk.folder / "model.pt"
    save(path, {"x": torch.zeros(1000)}, "cell")
    disk.fill(8192)
    with pytest.raises(OSError) as full:
        save(path, {"x": torch.ones(1_000_000)}, "cell")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    assert sorted(file.name for file in disk.folder.iterdir()) == ["filler", "model.pt"]
    assert load(path, "cell")["x"].sum() == 0
    with pytest.raises(OSError, match=r"model\.json"), replacing(disk.folder / "model.json") as file:
        file.write(bytes(100_000))
    disk.empty()
    save(path, {"x": torch.ones(1_000_000)}, "cell")
    assert load(path, "cell")["x"].sum() == 1_000_000


@as_root
@pytest.mark.parametrize("left", [0, 5000])
def test_training_on_a_full_disk_goes_on_when_there_is_room(left, disk, tiny, digits, tmp_path, monkeypatch):
    cell = tiny(loader="device").cells[0]
    whole = JobPaths(runs=tmp_path / "whole", data=digits, process="shared")
    train.run_cell(cell, whole)
    at = JobPaths(runs=disk.folder / "runs", data=digits, process="shared")
    checkpoint = train._checkpoint

    def fills(checkpoints, state, record):
        if record.epoch == 1:
            disk.fill(left)
        checkpoint(checkpoints, state, record)

    monkeypatch.setattr(train, "_checkpoint", fills)
    with pytest.raises(OSError, match=r"No space left on device: '.*disk/runs/"):
        train.run_cell(cell, at)
    monkeypatch.undo()
    disk.empty()
    train.run_cell(cell, at)
    states = [torch.load(place.runs / cell.id / "model.pt", weights_only=True) for place in (whole, at)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    records = read(at.runs / cell.id / "train.jsonl")
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [0, 1, 2] and isinstance(records[-1], End)


@as_root
def test_full_disk_holds_no_half_dataset(disk, tmp_path):
    (disk.folder / "data").mkdir()
    disk.fill(1_000_000)
    done = CliRunner().invoke(data, ["digits", "--data", str(disk.folder / "data")])
    file = DATASETS["digits"].path("train", disk.folder / "data")
    assert done.exit_code == 2 and done.stderr == (
        f"error: {file}: No space left on device (allowed: a folder for --data with room that can be written)\n"
    )
    assert not list((disk.folder / "data").iterdir())


@as_root
def test_full_or_unwritable_cache_costs_time_and_nothing_else(disk, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.folder))
    disk.fill()
    for place in (disk.folder, tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        count_cache._known.cache_clear()
        assert count_cache.kept("a key", lambda: {"flops": 1.0}) == {"flops": 1.0}
    count_cache._known.cache_clear()


@pytest.mark.parametrize("option", ["--csv", "--latex", "--out", "--html", "--wide-csv"])
def test_report_on_a_full_disk_names_the_file(option, tmp_path, monkeypatch):
    golden = ROOT / "tests" / "golden" / "report"
    monkeypatch.chdir(golden)
    file = tmp_path / "full.html"
    file.symlink_to("/dev/full")
    where = [str(golden / "manifests" / "adversarial.yaml"), "--runs", str(golden / "runs")]
    done = CliRunner().invoke(report, [*where, option, str(file)])
    assert done.exit_code == 2, done.output
    assert done.stderr == f"error: {file}: No space left on device\n"


def run_as_nobody(module: str, *arguments: str, umask: int = 0o022, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        umask=umask,
        capture_output=True,
        text=True,
        env={name: os.environ.get(name, "") for name in ("PATH", "PYTHONPATH")} | environment,
    )


MANIFEST = """
title: shared
dataset: digits
loader: device
pipeline: plain
images: 64
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 1, batch_size: 32, lr: 0.01}
cells: [{method: Standard, evals: [Clean: {images: 4}]}]
"""


@pytest.fixture
def open_to_all():
    """A folder that every user can reach: pytest closes its own to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "m.yaml").write_text(MANIFEST)
        try:
            subprocess.run([sys.executable, "-c", "import torch"], user=NOBODY, check=True, cwd=folder)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("another user cannot start this Python or reach this folder")
        yield folder


@as_root
def test_runs_of_another_user_are_refused_by_name(open_to_all):
    runs = open_to_all / "runs"
    (runs / "cell").mkdir(parents=True)
    (runs / "cell").chmod(0o700)
    runs.chmod(0o755)
    where = (str(open_to_all / "m.yaml"), "--runs", str(runs))
    done = run_as_nobody("bench.submit", *where, "--data", str(open_to_all / "data"), "--launcher", "inline")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr == f"error: {runs}: Permission denied (allowed: a folder for --runs that can be written)\n"
    runs.chmod(0o700)
    for module in ("bench.status", "reports"):
        done = run_as_nobody(module, *where)
        assert done.returncode == 2 and str(runs) in done.stderr and "Traceback" not in done.stderr, done.stderr


@as_root
@pytest.mark.slow
def test_read_only_home_and_a_strict_umask_train_and_report(open_to_all):
    runs, work = open_to_all / "work" / "runs", open_to_all / "work"
    work.mkdir()
    os.chown(work, NOBODY, NOBODY)
    (open_to_all / "home").mkdir(mode=0o555)
    home = {"HOME": str(open_to_all / "home"), "LOGNAME": "root", "TMPDIR": str(work), "OMP_NUM_THREADS": "1"}
    where = (str(open_to_all / "m.yaml"), "--runs", str(runs), "--data", str(work / "data"))
    done = run_as_nobody("bench.submit", *where, "--launcher", "inline", umask=0o077, **home)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert all(path.stat().st_mode & 0o077 == 0 for path in runs.rglob("*"))
    assert DATASETS["digits"].path("train", work / "data").stat().st_mode & 0o777 == 0o644
    done = run_as_nobody("reports", *where[:3], **home)
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize("known", [True, False])
def test_compiled_code_is_kept_for_the_process_s_own_user(known, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    name = pwd.getpwuid(os.getuid()).pw_name
    if not known:
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
        name = f"uid_{os.getuid()}"
    assert compiler_cache().name == f"torchinductor_{name}"
