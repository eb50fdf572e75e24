"""Record the error messages that the tests provoke, to compare two versions of the code by `diff`.

    GOLDEN_MESSAGES=after.json python -m pytest --ignore=tests/test_slurm.py
    diff tests/golden/messages.json after.json

The file maps each test to its messages, sorted: the text of each exception that `pytest.raises` catches, and what each
command that ends with exit code 2 prints. Placeholders stand for folders, processes, ports, times and addresses.
"""

import json
import re
import socket
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import typer.testing

ROOT = Path(__file__).parents[1]
_PLACES = (
    (r"\S*/pytest-of-[^/\s]+/pytest-\d+/(?:popen-gw\d+/)?[\w\[\]-]+", "<tmp>"),
    (re.escape(str(ROOT)), "<root>"),
    (re.escape(str(ROOT.parent)), "<beside>"),
    (rf"\b{re.escape(socket.gethostname())}\b", "<host>"),
    (r"0x[0-9a-f]{6,}", "<address>"),
    (r"\b(process|pid|port) \d+", r"\1 <number>"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:<port>"),
    (r"\b\d+(\.\d+)? (s|ms|seconds|minutes)\b", r"<time> \2"),
)


def normalized(text: str) -> str:
    """The text with placeholders for all that differs from one run or machine to another."""
    for pattern, placeholder in _PLACES:
        text = re.sub(pattern, placeholder, text)
    return text.strip()


class Recorder:
    """A pytest plug-in that writes the messages of a session, run by one worker, to a JSON file."""

    def __init__(self, file: Path):
        self.file = file
        self.test = ""
        self.messages: dict[str, set[str]] = defaultdict(set)
        self._watch(pytest.RaisesExc, "__exit__", lambda raises, caught: str(raises.excinfo.value) if caught else "")
        self._watch(typer.testing.CliRunner, "invoke", lambda _, done: done.output if done.exit_code == 2 else "")
        self._watch(subprocess.Popen, "communicate", _refusal)

    def _watch(self, kind: type, name: str, message) -> None:
        original = getattr(kind, name)

        def watched(itself, *args, **options):
            result = original(itself, *args, **options)
            if self.test and (text := message(itself, result)):
                self.messages[self.test].add(normalized(text))
            return result

        setattr(kind, name, watched)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item):
        self.test = item.nodeid
        try:
            return (yield)
        finally:
            self.test = ""

    def pytest_sessionfinish(self) -> None:
        found = {test: sorted(messages) for test, messages in sorted(self.messages.items())}
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        # Names of files may hold bytes that are no text.
        self.file.write_text(text, encoding="utf-8", errors="backslashreplace")


def _refusal(process: subprocess.Popen, streams: tuple) -> str:
    """Standard error of a command that ends with exit code 2."""
    errors = streams[1] or ""
    return "" if process.poll() != 2 else errors if isinstance(errors, str) else errors.decode(errors="replace")
