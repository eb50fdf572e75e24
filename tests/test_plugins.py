"""Plug-ins are found by the names that their files list; only the file of the one that is asked for is imported."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crt import plugins

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def package(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of a package without plug-ins, which is called `offers`."""
    folder = tmp_path / "offers"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (plugins.modules, plugins.find, plugins._outline)
    yield folder
    for known in caches:
        known.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "offers"]:
        del sys.modules[name]


def test_only_the_module_that_offers_a_name_is_imported(package):
    (package / "one.py").write_text('__all__ = [\n    "a",\n    "b",\n]\na, b = 1, 2\n')
    (package / "other.py").write_text('__all__ = ["c"]\nraise RuntimeError("imported")\n')
    (package / "helper.py").write_text("__all__: list[str] = []\n")
    (package / "base.py").write_text("kind = int\n")
    assert plugins.modules("offers") == {"a": "offers.one", "b": "offers.one", "c": "offers.other"}
    assert (plugins.find("offers", "a"), plugins.find("offers", "b")) == (1, 2)
    assert not {"offers.other", "offers.helper"} & set(sys.modules)
    with pytest.raises(RuntimeError, match="imported"):
        plugins.find("offers", "c")
    with pytest.raises(ValueError, match=r"^unknown name 'd' \(allowed: a, b, c\)$"):
        plugins.find("offers", "d")


def test_a_name_that_two_modules_offer_is_refused(package):
    for name in ("one", "two"):
        (package / f"{name}.py").write_text('__all__ = ["a"]\na = 1\n')
    with pytest.raises(ValueError, match=r"^a is offered twice in offers$"):
        plugins.modules("offers")


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\n",
        "__all__ = list_of()\n",
        "if True:\n    __all__ = ['a']\n",
        "__all__ = [a]\n",
        "__all__ = ['a' 'b', 1]\n",
        "__all__ = ['a' =]\n",
        "# \udcff\n__all__ = ['a']\n",
    ],
)
def test_a_module_must_list_its_names(package, text):
    (package / "one.py").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"one\.py: does not list the plug-ins .* \(needed: __all__ = \[\.\.\.\], "):
        plugins.modules("offers")


def test_files_of_an_editor_are_no_modules(package):
    (package / "one.py").write_text('__all__ = ["a"]\na = 1\n')
    (package / ".#one.py").symlink_to("nowhere")
    (package / "one copy.py").write_text("")
    assert plugins.modules("offers") == {"a": "offers.one"}


OUTLINE = """
import sys
from crt.plugins import declaration
duet = declaration("crt.methods", "Duet")
imported = [name for name in sys.modules if name.startswith("crt.methods.")]
lmt, bcp = (declaration("crt.methods", name) for name in ("LMT", "BCP"))
common = set(lmt.__mro__) & set(bcp.__mro__) & set(duet.__mro__)
print(imported, "torch" in sys.modules, "numpy" in sys.modules, sorted(kind.__name__ for kind in common))
"""


def test_declarations_in_outline_share_their_base_classes():
    command = [sys.executable, "-c", OUTLINE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    bases = "['ABC', 'Method', 'Normed', 'Plugin', 'Ramped', 'object']"
    assert done.stdout.strip() == f"[] False False {bases}"
