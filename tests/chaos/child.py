"""A function that runs in a forked child, under limits of time and memory."""

import gc
import importlib
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import typer

from crt.text import printable
from tests.chaos.kind import Outcome

_MOST = 16 * 2**30
"""Bytes of addresses that a child may have, so that none takes the machine's memory."""


class Ended(NamedTuple):
    """How a child ended, and what it printed."""

    code: int
    """Exit code, or minus the number of the signal that ended the child."""
    output: str
    error: str
    seconds: float
    """Processor time."""
    megabytes: float
    """Memory that the child took beyond the parent's."""

    def crash(self) -> str:
        """The reason why this is no orderly end: a signal, a traceback or another exit code than 0 and 2."""
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}: {self.error[:3000]}"  # an abort's reason comes first
        if "Traceback (most recent call last)" in self.error:
            return f"traceback: {self.error[-1200:]}"
        return "" if self.code in (0, 2) else f"exit code {self.code}: {self.error[-300:]}"

    def refusal(self, *places: str) -> str:
        """The reason why this is no refusal in one line that names one of the places."""
        if crash := self.crash():
            return crash
        lines = [line for line in self.error.splitlines() if not line.startswith(("note: ", "warning: "))]
        if self.code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            return f"exit code {self.code} with {len(lines)} lines of errors: {self.error[:600]}"
        if len(lines[0]) > 3000 or not any(place in lines[0] for place in places):
            return f"a message of {len(lines[0])} characters that names none of {', '.join(places)}: {lines[0][:300]}"
        return ""


def run(function: Callable[[], None], seconds: int = 60, folder: Path | None = None) -> Ended:
    """Run a function in a child, which is ended after so many seconds; `folder` is the child's working folder."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        sys.stdout.flush(), sys.stderr.flush()
        before = _resident(os.getpid())
        child = os.fork()
        if not child:
            _be_child(function, seconds, folder, output.fileno(), error.fileno())
        _, status, used = os.wait4(child, 0)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors="surrogateescape"))
        code, cpu = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        return Ended(code, texts[0], texts[1], cpu, max(0, used.ru_maxrss - before) / 1024)


def outcome(tried: str, broken: str) -> Outcome:
    """An outcome in characters that every file and terminal holds."""
    return Outcome(printable(tried), printable(broken, keep="\n"))


def preload(function: Callable[[], None], file: Path) -> None:
    """Import all that a function imports, so that children need not; `file` keeps the modules' names.

    The function runs in a child, once: torch's backward passes cannot run in a child of a process that had one.
    """

    def learn() -> None:
        function()
        file.write_text("\n".join(sys.modules))

    if not file.exists() and (ended := run(learn, seconds=900)).code:
        raise RuntimeError(ended.error)
    for name in file.read_text().split():
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect(), gc.freeze()  # so that collection does not copy this process's memory into each child


def _resident(process: int) -> int:
    """The memory in KB that a process has, which a child begins with."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def _be_child(function: Callable[[], None], seconds: int, folder: Path | None, output: int, error: int) -> None:
    """Run the function and end this process."""
    code = 70
    try:
        os.dup2(output, 1), os.dup2(error, 2)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MOST, _MOST))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        if folder:
            os.chdir(folder)
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except typer.Exit as ended:
        code = ended.exit_code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
