"""The recorder of error messages: what it keeps, and what placeholders stand for."""

import json
import subprocess
import sys
from pathlib import Path

from messages import ROOT, normalized

TESTS = """
import sys, subprocess
import pytest, typer
from pathlib import Path
from typer.testing import CliRunner

app = typer.Typer()

@app.command()
def refuse(code: int):
    print(f"refused with {code}")
    raise SystemExit(code)

def test_of_errors(tmp_path):
    with pytest.raises(ValueError):
        raise ValueError(f"{tmp_path}/m.yaml: 0 (allowed: 1), process 17, after 3.2 s")
    with pytest.raises(ValueError):
        raise ValueError("no text: " + chr(0xDCFF))
    for code in ("0", "2"):
        CliRunner().invoke(app, [code])
    command = "import sys; sys.stderr.write('not so'); sys.exit(%d)"
    for code in (0, 2):
        subprocess.run([sys.executable, "-c", command % code], capture_output=True, text=True)

def test_without_errors():
    pass
"""


def test_each_refusal_is_recorded_with_its_test(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(
        "import messages\n"
        "from pathlib import Path\n\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(messages.Recorder(Path('found.json').absolute()))\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import pytest; sys.exit(pytest.main(['-q']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "test_it.py::test_of_errors": [
            "<tmp>/m.yaml: 0 (allowed: 1), process <number>, after <time> s",
            "no text: \udcff",
            "not so",
            "refused with 2",
        ]
    }


def test_places_of_this_machine_have_placeholders():
    assert (
        normalized(f"{ROOT}/bench/x.py: 127.0.0.1:29500 at 0x7f3a2b1c")
        == "<root>/bench/x.py: 127.0.0.1:<port> at <address>"
    )


def test_recording_beside_is_sorted_and_free_of_this_machine():
    found = json.loads((Path(__file__).parent / "golden" / "messages.json").read_text(encoding="utf-8"))
    assert list(found) == sorted(found) and all(messages == sorted(messages) for messages in found.values())
    assert not any("/tmp/" in message for messages in found.values() for message in messages)
