"""A user of the cluster: small manifests in one runs folder, and the project's commands on them."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.slurm import ROOT

_HEAD = """
dataset: digits
pipeline: plain
loader: {loader}
images: {images}
threat: {{norm: l2, sigma: 0.25}}
arch: cnn2c2f
"""
MANIFESTS = {
    # Two waves of trainings, and evaluations in shards.
    "waves": _HEAD.format(loader="device", images=512)
    + """
recipe: {epochs: 6, batch_size: 32, lr: 0.01}
evals: [Clean: {images: 16}, Smoothing: {n: 100, n0: 10, images: 16}]
cells:
  - {method: SmoothMix, name: teacher}
  - {method: CRT, teacher: {cell: teacher}, recipe: {epochs: 4, batch_size: 32, lr: 0.01}}
""",
    # A cell of two ranks on two nodes, and two that one array trains.
    "ranks": _HEAD.format(loader="torch", images=512)
    + """
recipe: {epochs: 6, batch_size: 32, lr: 0.01}
cells:
  - {method: Gaussian, ranks: 2, nodes: 2}
  - {method: Standard, seed: [0, 1]}
""",
    "times": _HEAD.format(loader="device", images=128)
    + """
recipe: {epochs: 2, batch_size: 32, lr: 0.01}
timing: {runs: 2, rounds: 3, images: 128}
baseline: Standard
cells: [{method: [Standard, Gaussian]}]
""",
    "ffcv": _HEAD.format(loader="ffcv", images=256)
    + """
recipe: {epochs: 4, batch_size: 32, lr: 0.01}
cells: [{method: Standard}]
""",
}
NAMES = tuple(MANIFESTS)
MANIFESTS["small"] = (
    _HEAD.format(loader="device", images=512)
    + """
recipe: {epochs: 6, batch_size: 32, lr: 0.01}
cells: [{method: Standard, seed: [0, 1], evals: [Clean: {images: 8}]}]
"""
)
_PROFILE = """
time: 30
signal_delay_s: 5
cpus_per_task: 1
mem: 1500M
shards: 2
exclusive: false
array_parallelism: 8
"""
_LONG = 600
"""Seconds after which a command hangs."""

_INTERRUPTED = 130
"""Exit code of a command that SIGINT ends."""
_GOES_ON = "interrupted; the same command goes on\n"


class Said(NamedTuple):
    """The end of a command."""

    module: str
    manifest: str
    code: int
    """Negative for one that a signal ended, as in subprocess."""
    text: str

    @property
    def done(self) -> str:
        """The manifest, if a submission told that nothing is left of it to do; else empty."""
        return self.manifest if "Nothing left to do" in self.text else ""

    @property
    def command(self) -> str:
        return f"{self.module} {self.manifest}"

    @property
    def broken(self) -> str:
        """The reason why no user should get this answer, whatever disturbs the cluster; empty if it is fine."""
        if self._was_interrupted:
            return ""
        if "Traceback" in self.text:
            return f"{self.command} prints a traceback: {self.text[-600:]}"
        if self.code not in (0, 2) and self.code >= 0:
            return f"{self.command} ends with exit code {self.code}: {self.text[-300:]}"
        if self.code == 2 and "error: " not in self.text:
            return f"{self.command} ends with exit code 2 and no error: {self.text[-300:]}"
        return ""

    @property
    def _was_interrupted(self) -> bool:
        """True if SIGINT ended the command and it says so, or if it had only begun to import modules."""
        if self.text.endswith("\nKeyboardInterrupt\n"):
            functions = re.findall(rf'File "{re.escape(str(ROOT))}/(?!\.venv)[^"]*", line \d+, in (.+)', self.text)
            return set(functions) <= {"<module>"}
        return self.code == _INTERRUPTED and (not self.text or self.text.endswith(_GOES_ON))


class Shell:
    """A command that runs; what it prints goes to a file."""

    def __init__(self, module: str, words: tuple[object, ...], environment: dict[str, str], log: Path):
        self.module, self.manifest, self._log = module, Path(str(words[0])).stem, log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, words)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> Said:
        """Its end; a command that hangs is killed, and its code is then above 2."""
        try:
            code = self.process.wait(_LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 124
        return Said(self.module, self.manifest, code, self._log.read_text(errors="replace"))


class User:
    """The manifests, profile and folders of one campaign, and commands on them."""

    def __init__(self, folder: Path, runs: Path, environment: dict[str, str], names: Sequence[str] = NAMES):
        self.folder, self.runs, self.data, self.names = folder, runs, folder / "data", names
        self._environment = environment | {"XDG_CACHE_HOME": str(folder / "cache")}
        self._logs = folder / "shells"
        self._count = 0
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in names:
            self.manifest(name).write_text(MANIFESTS[name])
        (folder / "profile.yaml").write_text(_PROFILE)

    def manifest(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"

    def note(self, words: str) -> None:
        """Write a line with the time into the diary of all attempts."""
        with open(self.folder / "diary.txt", "a", encoding="utf-8") as diary:
            diary.write(f"{time.strftime('%H:%M:%S')} {words}\n")

    def start(self, module: str, name: str, *options: object) -> Shell:
        """Start a command on a manifest."""
        self._count += 1
        words = (self.manifest(name), "--runs", self.runs, *options)
        if module != "reports":
            words += ("--data", self.data)
        self.note(f"shell {self._count}: {module} {name}")
        return Shell(module, words, self._environment, self._logs / f"{self._count}.txt")

    def submit(self, name: str) -> Shell:
        return self.start("bench.submit", name, "--profile", self.folder / "profile.yaml")
