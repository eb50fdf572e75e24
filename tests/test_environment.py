"""Provenance: what is said of a checkout and of how it differs from its commit."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.measure import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed repository; the package that asks lies in a folder of it."""
    top = tmp_path / "checkout"
    (top / "package").mkdir(parents=True)
    (top / "tracked").write_text("a\nb\nc\n")
    (top / "package" / "module").write_text("a\n")
    (top / ".gitignore").write_text("ignored\n")
    git(top, "init", "--quiet")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--message", "first")
    return top


def source(top: Path):
    return provenance._source(top / "package")


def difference(top: Path) -> str:
    commit, dirty, diff = source(top)
    assert commit == git(top, "rev-parse", "HEAD") and dirty is True
    assert len(diff) == 16 and int(diff, 16) >= 0
    return diff


def test_a_clean_checkout_has_no_difference(checkout):
    (checkout / "ignored").write_text("a")
    assert source(checkout) == (git(checkout, "rev-parse", "HEAD"), False, None)


def test_each_difference_has_a_digest_of_its_own(checkout):
    found = []
    for name, text in [("tracked", "b\n"), ("tracked", "c\n"), ("new", "a"), ("new", "b"), ("package/new", "b")]:
        (checkout / name).write_text(text)
        found.append(difference(checkout))
    (checkout / "new").rename(checkout / "newer")
    found.append(difference(checkout))
    (checkout / "package" / "module").unlink()
    found.append(difference(checkout))
    assert len(set(found)) == len(found)


def test_the_same_difference_has_the_same_digest(checkout):
    (checkout / "tracked").write_text("b\n")
    (checkout / "new").write_text("a")
    first = difference(checkout)
    os.utime(checkout / "new", (0, 0))
    for key, value in {"color.ui": "always", "core.abbrev": "12", "diff.noPrefix": "true", "diff.context": "0"}.items():
        git(checkout, "config", key, value)
    assert difference(checkout) == first
    git(checkout, "add", "tracked")
    assert difference(checkout) == first
    (checkout / "tracked").write_text("a\nb\nc\n")
    (checkout / "new").unlink()
    git(checkout, "add", "tracked")
    assert source(checkout)[1:] == (False, None)


def test_a_large_file_is_not_read(checkout, monkeypatch):
    monkeypatch.setattr(provenance, "_LARGE", 3)
    large = checkout / "large"
    large.write_bytes(b"abcd")
    os.utime(large, (1, 1))
    first = difference(checkout)
    large.write_bytes(b"efgh")
    os.utime(large, (1, 1))
    assert difference(checkout) == first
    os.utime(large, (2, 2))
    second = difference(checkout)
    large.write_bytes(b"abc")
    assert len({first, second, difference(checkout)}) == 3


def test_what_cannot_be_read_does_no_harm(checkout):
    (checkout / "dangling").symlink_to("nowhere")
    os.mkfifo(checkout / "pipe")
    (checkout / "inner").mkdir()
    git(checkout / "inner", "init", "--quiet")
    (checkout / os.fsdecode(b"\xff\n")).write_text("a")
    first = difference(checkout)
    (checkout / "dangling").unlink()
    (checkout / "dangling").symlink_to("elsewhere")
    assert difference(checkout) != first
    assert provenance._content(checkout / "missing") == b""


def test_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance._source(tmp_path) == (None, None, None)
    git(tmp_path, "init", "--quiet")
    assert provenance._source(tmp_path) == (None, None, None), "no commit yet"


def test_packages_installed_within_another_projects_repository_have_no_commit(checkout):
    installed = checkout / "ignored" / "site-packages" / "bench"
    installed.mkdir(parents=True)
    (installed / "module").write_text("a\n")
    assert provenance._source(installed) == (None, None, None)


def test_no_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert source(checkout) == (None, None, None)
