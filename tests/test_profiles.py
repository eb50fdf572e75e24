"""Profiles and the batch scripts made of them: what is refused, what is passed on, and that text stays text."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from calls import CallTask, wave

from bench.manifest import profile as profiles
from launchers import slurm
from launchers.profile import Profile
from launchers.sbatch_options import SETTLED


def profile(folder: Path, text: str) -> Profile:
    (folder / "p.yaml").write_text(text)
    return profiles.read(folder / "p.yaml")


def script(given: Profile, logs: Path, ranks: int = 1, nodes: int = 1, title: str = "t") -> str:
    task = CallTask(name="train/a", ranks=ranks, nodes=nodes)
    (array,) = slurm.arrays(title, [wave(task)], given, 9, set())
    return slurm.text(array, logs, given)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{gres: 'gpu:a100:2', gpus_per_rank: 1}", ["--gres=gpu:a100:2"]),
        ("{gres: 'nvme:1', gpus_per_rank: 1}", ["--gres=nvme:1", "--gpus-per-node=1"]),
        ("{gres: 'nvme:1,gpu', gpus_per_rank: 1}", ["--gres=nvme:1,gpu"]),
        ("gpus_per_rank: 1", ["--gpus-per-node=1"]),
        ("reservation: maintenance 1", ["--reservation='maintenance 1'"]),
        ("nodelist: n[1-2]", ["--nodelist='n[1-2]'"]),
        ("exclude: n3,n4", ["--exclude=n3,n4"]),
        ("sbatch: {mail-type: END, nice: 100, hold: true}", ["--mail-type=END", "--nice=100", "--hold"]),
        ("sbatch: {begin: '2026-01-01', licenses: a:1, tmp: 1G}", ["--begin=2026-01-01", "--licenses=a:1", "--tmp=1G"]),
        ("sbatch: {wckey: mine, time-min: 10}", ["--wckey=mine", "--time-min=10"]),
        ('sbatch: {mail-user: "o\'brien"}', ["""--mail-user='o'"'"'brien'"""]),
    ],
)
def test_what_sbatch_is_asked_for(tmp_path, text, lines):
    said = script(profile(tmp_path, text), tmp_path / "logs").splitlines()
    assert {f"#SBATCH {line}" for line in lines} <= set(said)
    assert sum("--gpus-per-node" in line for line in said) == sum("--gpus-per-node" in line for line in lines)
    assert sum(line.startswith("#SBATCH --wckey") for line in said) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reservaton: x", r"profile\.reservaton: unknown key \(allowed: partition, .*reservation, nodelist, exclude,"),
        ("nodes: 2", r"profile\.nodes: unknown key \(allowed: .*sbatch"),
        ("mail-type: END", r"profile\.mail-type: unknown key \(allowed: .*sbatch"),
        ("sbatch: {--nice: 1}", r"sbatch\.--nice: no option of sbatch \(allowed: long names"),
        ("sbatch: {mail_type: END}", r"sbatch\.mail_type: no option of sbatch \(allowed: long names"),
        ("sbatch: {c: 4}", r"sbatch\.c: no option of sbatch \(allowed: long names"),
        ("sbatch: {hold: false}", r"sbatch\.hold: False: \(allowed: text, a number, true"),
        ("sbatch: {nice: }", r"sbatch\.nice: None: \(allowed: text, a number, true"),
        ("sbatch: {nice: [1]}", r"sbatch\.nice: \[1\]: \(allowed: text, a number, true"),
        ("sbatch: {nice: .inf}", r"sbatch\.nice: inf: \(allowed: text, a number, true"),
        ("sbatch: {begin: 2026-01-01}", r"sbatch\.begin: \(allowed: .*a date in quotes"),
        ("sbatch: [nice]", r"profile\.sbatch: \['nice'\]"),
        ('sbatch: {nice: "1\\n#SBATCH --array=0-9"}', r"sbatch\.nice: .* a line break or another control character"),
        ('partition: "a\\nrm -rf x"', r"profile\.partition: .* a line break"),
        ('reservation: "a\\tb"', r"profile\.reservation: .* control character"),
        ('gres: "gpu\\r"', r"p\.yaml.*control character"),
        ('srun_args: ["a\\nb"]', r"profile\.srun_args\[0\]: .* a line break"),
        ('python: "a\\nb"', r"profile\.python: .*"),
        (r"account: a\b", r"profile\.account: .* a backslash, which sbatch drops"),
        ("python: singularity exec x python", r"profile\.python: .*\(allowed: one path, or a list of words"),
        ("gres: gpu:2", r"gres: gpu:2: ranks on CPUs need no GPU \(allowed with it: gpus_per_rank: 1\)"),
    ],
)
def test_what_would_be_misread_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        profile(tmp_path, text)


@pytest.mark.parametrize("name", sorted(SETTLED))
def test_what_is_settled_elsewhere_is_refused_with_what_is_allowed(tmp_path, name):
    for given in {name, name[:-1]} - {"gre", "me", "qo"} | {name}:
        with pytest.raises(ValueError, match=rf"sbatch\.{given}: bench.submit decides on .* \(allowed: "):
            profile(tmp_path, f"sbatch: {{{given}: x}}")


@pytest.mark.parametrize("gres", ["gpu", "gpu:1", "gpu:a100:3", "gpu:a:1,gpu:b:2", "gres:gpu:2", "gres/gpu:3"])
def test_fewer_gpus_than_ranks_on_a_node_are_refused(tmp_path, gres):
    with pytest.raises(ValueError, match="train/a has 4 ranks on a node, each with its GPU"):
        script(profile(tmp_path, f"{{gres: '{gres}', gpus_per_rank: 1}}"), tmp_path, ranks=8, nodes=2)


FOLDERS = ["a b", "it's", 'say "x"', "$HOME", "`id`", "$(id)", "a;b&c", "ünï", "#1", "*", "[x]", "-x"]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_any_name_is_one_word_of_the_script(tmp_path, name, ranks):
    logs = tmp_path / name / "logs"
    logs.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    seen = tmp_path / "seen"
    fake = f"#!/bin/bash\nprintf '%s\\n' \"$@\" > '{seen}'\ncat \"$BENCH_RENDEZVOUS\" >> '{seen}'; exit 3\n"
    (tmp_path / "bin" / "srun").write_text(fake)
    (tmp_path / "bin" / "srun").chmod(0o755)
    given = Profile(python=f"{tmp_path}/{name}/python", cpus_per_task=6)
    said = script(given, logs, ranks)
    for line in said.splitlines():
        if line.startswith("#SBATCH --output="):
            assert shlex.split(line.removeprefix("#SBATCH ")) == [f"--output={logs}/%j_0_log.out"]
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", "-c", said], env=environment, capture_output=True, text=True)
    words = seen.read_text().splitlines()
    assert done.returncode == 3, done.stderr
    assert [f"{logs}/%j_%t_log.out", f"{logs}/%j_%t_log.err"] == [words[2], words[4]]
    assert {"--kill-on-bad-exit=1", "--export=ALL", "--cpus-per-task=6"} <= set(words)
    assert words[-5:] == [f"{tmp_path}/{name}/python", "-u", "-m", "submitit.core._submit", str(logs)]
    # The file by which ranks meet was there, empty, and is gone.
    assert (done.stderr == "") == (ranks > 1) and not list(logs.iterdir())


@pytest.mark.parametrize("title", ["a b", "it's", "x\n#SBATCH --array=0-9", "$(id)", "a/b", "50%"])
def test_a_title_of_any_kind_is_one_word_of_letters(tmp_path, title):
    (line,) = [line for line in script(Profile(), tmp_path, title=title).splitlines() if "job-name" in line]
    assert re.fullmatch(r"#SBATCH --job-name=[\w.+-]+", line)
    assert "--array" not in script(Profile(), tmp_path, title=title).replace(line, "")


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/opt/my env/bin/python", ["/opt/my env/bin/python"]),
        ("python3", ["python3"]),
        (
            "[singularity, exec, --nv, my image.sif, python3]",
            ["singularity", "exec", "--nv", "my image.sif", "python3"],
        ),
        ("/opt/it's/python", ["/opt/it's/python"]),
        ("/opt/$HOME/python", ["/opt/$HOME/python"]),
    ],
)
def test_the_interpreter_is_a_path_or_words(tmp_path, python, words):
    assert shlex.split(profile(tmp_path, f"python: {python}").interpreter) == words
