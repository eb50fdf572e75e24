"""The installed package: what the wheel carries, the one command over all, shipped files by name, completion."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import COMMANDS, app
from bench.manifest import profile as profiles
from bench.manifest import read_manifest, shipped
from bench.plan.selection import manifest_name

ROOT = Path(__file__).parents[1]
CODE = ("bench", "crt", "launchers", "reports")
YAML = {f"bench/{file.relative_to(ROOT)}" for name in ("manifests", "slurm") for file in (ROOT / name).rglob("*.yaml")}
PAGES = {
    str(file.relative_to(ROOT))
    for name in CODE
    for suffix in ("j2", "css", "js")
    for file in (ROOT / name).rglob(f"*.{suffix}")
}
PYTHON = {str(file.relative_to(ROOT)) for name in CODE for file in (ROOT / name).rglob("*.py")}


def python(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a checkout has, for builds leave files behind."""
    top = tmp_path_factory.mktemp("source")
    for name in (*CODE, "manifests", "slurm", "tests"):
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, top)
    return top


def build(source: Path, kind: str, out: Path) -> Path:
    """A wheel or an sdist, built without a network."""
    words = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    done = python("-c", words, cwd=source)
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """The wheel unpacked, with its command on the PATH; the environment to run it in."""
    top = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(top / "packages")
    (top / "bin").mkdir()
    command = top / "bin" / "robust-bench"
    command.write_text(f"#!{sys.executable}\nfrom bench.__main__ import app\n\napp()\n")
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(top / "packages")}


def robust_bench(installed: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = ["robust-bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | installed)


@pytest.mark.slow
def test_the_wheel_carries_code_manifests_and_profiles_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert len(YAML) > 40 and len(PYTHON) > 100
    assert len(PAGES) > 4 and names == PYTHON | YAML | PAGES


@pytest.mark.slow
def test_an_sdist_makes_the_same_wheel(source, wheel, tmp_path):
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    sdist = build(source, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    for file in ("slurm/testcluster.sh", "tests/conftest.py", "Makefile", "requirements.lock", "slurm/README.md"):
        assert (unpacked / file).read_bytes() == (ROOT / file).read_bytes()
    again = build(unpacked, "wheel", tmp_path / "wheel")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_an_installed_copy_submits_what_is_shipped_from_any_folder(installed, tmp_path):
    done = robust_bench(
        installed, tmp_path, "submit", "quickstart", "--dry-run", "--launcher", "slurm", "--profile", "a100"
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH" in done.stdout and "quickstart-train0" in done.stdout
    done = robust_bench(installed, tmp_path, "status", "rrm/table1")
    assert done.returncode == 0 and "not submitted" in done.stdout, done.stderr
    done = robust_bench(installed, tmp_path, "speed", "--methods", "Nothing", "--seconds", "1")
    assert done.returncode == 2 and "error: --methods 'Nothing': not in the manifest (allowed: " in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_version(installed, tmp_path):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert robust_bench(installed, tmp_path, "--version").stdout == f"robust-bench {known}\n"
    assert CliRunner().invoke(app, ["--version"]).stdout == f"robust-bench {known}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_same_by_both_of_its_names(name):
    (registered,) = [command for command in app.registered_commands if command.name == name]
    assert registered.callback is COMMANDS[name].main
    one = CliRunner().invoke(app, [name, "--help"], prog_name="robust-bench")
    other = CliRunner().invoke(COMMANDS[name].app, ["--help"], prog_name=f"robust-bench {name}")
    assert one.exit_code == other.exit_code == 0
    assert one.stdout == other.stdout and "Options:" in one.stdout


def test_every_command_line_of_the_benchmark_is_a_command():
    files = [file for file in (ROOT / "bench").glob("*.py") if "app = application(" in file.read_text()]
    # `import` is a word of Python's, which names no module.
    lines = {{"import_": "import"}.get(file.stem, file.stem) for file in files}
    # The check of a GPU runs tests, which no wheel holds.
    assert lines - {"__main__", "gpu_check"} | {"data", "report"} == set(COMMANDS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("data", ["nothing"]),
        ("submit", ["nothing"]),
        ("submit", ["quickstart", "--launcher", "inline", "--profile", "a100"]),
        ("status", ["nothing.yaml"]),
        ("cancel", ["manifests/nothing.yaml"]),
        ("report", ["quickstart", "--allow", "nothing"]),
        ("certify", ["nothing.pt", "--arch", "resnet20", "--sigma", "-1"]),
        ("attack", ["nothing.pt", "--arch", "resnet20", "--eps", "0"]),
        ("speed", ["quickstart"]),
        ("similarity", ["nothing"]),
        ("submit", ["quickstart", "--nothing"]),
        ("submit", []),
    ],
)
def test_a_mistake_ends_in_the_same_way_by_both_names(name, arguments):
    one = CliRunner().invoke(app, [name, *arguments], prog_name="robust-bench")
    other = CliRunner().invoke(COMMANDS[name].app, arguments, prog_name=f"robust-bench {name}")
    assert one.exit_code == other.exit_code == 2
    assert one.stderr == other.stderr and one.stderr
    if "--nothing" not in arguments and arguments:
        assert one.stderr.startswith("error: ") and one.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("table4", "table4.yaml"),
        ("table4.yaml", "table4.yaml"),
        ("manifests/table4.yaml", "table4.yaml"),
        ("manifests/table4", "table4.yaml"),
        ("./manifests/table4.yaml", "table4.yaml"),
        ("rrm/table1", "rrm/table1.yaml"),
        ("rrm/table1.yaml", "rrm/table1.yaml"),
        ("manifests/rrm/table1.yaml", "rrm/table1.yaml"),
        ("duet/a9", "duet/a9.yaml"),
        ("speed-cpu", "speed-cpu.yaml"),
    ],
)
def test_a_shipped_manifest_is_found_by_its_name(given, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table4").mkdir()
    found = shipped.manifest(Path(given))
    assert found.read_bytes() == (ROOT / "manifests" / file).read_bytes()
    assert (
        manifest_name(Path(given))
        == manifest_name(ROOT / "manifests" / file)
        == file.removesuffix(".yaml").replace("/", "-")
    )


@pytest.mark.parametrize(
    "given", ["tabel4", "table4.yml", "Table4", "rrm/table4", "rrm", "manifests", "../manifests/table4", "table4/x", ""]
)
def test_a_wrong_name_of_a_manifest_is_refused_with_what_is_allowed(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"directory \(allowed: a file, or .*: adversarial, .*rrm/table1, .*table4"):
        shipped.manifest(Path(given))


@pytest.mark.parametrize("given", ["/nothing/table4", "/table4.yaml"])
def test_an_absolute_path_names_its_file_alone(given):
    assert shipped.manifest(Path(given)) == Path(given)
    with pytest.raises(ValueError, match=f"^{given}: No such file or directory$"):
        read_manifest(Path(given))


@pytest.mark.parametrize("given", ["a100", "a100.yaml", "slurm/a100.yaml", "slurm/a100", "./slurm/a100"])
def test_a_shipped_profile_is_found_by_its_name(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert profiles.read(Path(given)) == profiles.read(ROOT / "slurm" / "a100.yaml") != profiles.read(profiles.DEFAULT)


@pytest.mark.parametrize("given", ["a1000", "testcluster.sh", "slurm", "manifests/a100", "table4"])
def test_a_wrong_name_of_a_profile_is_refused_with_what_is_allowed(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{given}: No such file .*: a100, default, h100"):
        profiles.read(Path(given))


def test_a_file_of_ones_own_goes_before_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifests").mkdir()
    for name in ("table4", "manifests/table4.yaml"):
        Path(name).write_text("mine: 1\n")
        assert shipped.manifest(Path(name)) == Path(name) and manifest_name(Path(name)) == "table4"
        with pytest.raises(ValueError, match=r"manifest\.mine: unknown key"):
            read_manifest(Path(name))


def test_a_pipe_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "table4")
    assert shipped.manifest(Path("table4")) == Path("table4")


def completions(shell: str, line: str) -> str:
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = python("-m", "bench", cwd=ROOT, **asked, _ROBUST_BENCH_COMPLETE=f"complete_{shell}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("robust-bench ", list(COMMANDS)),
        ("robust-bench st", ["status"]),
        ("robust-bench data --val", ["--val-labels"]),
        ("robust-bench submit --dr", ["--dry-run"]),
        ("robust-bench submit --launcher ", ["auto", "inline", "local", "slurm"]),
        ("robust-bench certify --precision b", ["bf16"]),
        ("robust-bench attack --norm ", ["linf", "l2"]),
        ("robust-bench --ver", ["--version"]),
    ],
)
def test_the_shells_complete_commands_options_and_values(shell, line, offered):
    found = completions(shell, line)
    if shell == "zsh":
        assert found.startswith("_arguments") and [found.index(f'"{word}"') for word in offered]
    else:
        assert [row.partition("\t")[0] for row in found.split() if row in offered] == offered
        assert len(found.splitlines()) == len(offered)


@pytest.mark.parametrize(
    "line", ["robust-bench submit ", "robust-bench report man", "robust-bench submit table4 --profile sl",
             "robust-bench certify mod", "robust-bench status quickstart --runs r"],
)  # fmt: skip
def test_file_names_are_left_to_the_shells(line):
    assert completions("bash", line).strip() == "" and completions("zsh", line).strip() == "_files"
    asked = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    done = CliRunner().invoke(app, prog_name="robust-bench", env=asked | {"_ROBUST_BENCH_COMPLETE": "complete_fish"})
    assert done.exit_code == 1, "fish offers files then"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_after_install_completion(installed, tmp_path):
    run = lambda words: subprocess.run(  # noqa: E731
        ["bash", "-c", words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | installed | {"HOME": str(tmp_path)},
    )
    done = run("robust-bench --install-completion; exit $?")
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    ask = (
        "source ~/.bashrc; complete -p robust-bench; COMP_WORDS=(robust-bench su); COMP_CWORD=1;"
        " _robust_bench_completion robust-bench; echo ${COMPREPLY[@]}"
    )
    done = run(ask)
    offer, found = done.stdout.splitlines()
    # By default bash itself completes the names of files.
    assert "-o default" in offer and found == "submit", done.stderr
