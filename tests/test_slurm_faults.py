"""Slurm's own faults, with scripts in the place of its commands: no job twice, none forgotten, each with its cause."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from calls import CallTask
from typer.testing import CliRunner
from waiting import until

from bench import cancel, status
from bench.manifest import read_manifest
from bench.plan.job_states import ask_slurm, states
from launchers import slurm
from launchers.causes import cause
from launchers.ledger import Ledger, entry
from launchers.profile import Profile
from launchers.states import last_words, queued
from launchers.task import Job, TaskProgress, Wave

MANIFEST = """
dataset: digits
loader: device
arch: cnn2c2f
images: 128
recipe: {epochs: 1, batch_size: 32, lr: 0.01}
cells: [{method: Standard, seed: [0, 1]}]
"""
ROOT = Path(__file__).parents[1]
UP = """case "$1" in ping) echo 'Slurmctld(primary) at n0 is UP';;
*) printf 'ClusterName = c\\nMaxArraySize = 1001\\n';; esac"""
DOWN = """echo 'Slurmctld(primary) at n0 is DOWN'
echo '*****************************************'
echo '** RESTORE SLURMCTLD DAEMON TO SERVICE **'
echo '*****************************************'
exit 1"""
UNREACHABLE = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
NO_ACCOUNTS = "echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 1"
OURS, OTHER = "a" * 32, "b" * 32


class Place:
    """A manifest of two cells with its ledger, and a folder of Slurm's commands."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.ledger = folder, Ledger(folder / "runs")
        (folder / "m.yaml").write_text(MANIFEST)
        (folder / "runs").mkdir()
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        self.keys = tuple(f"train/{cell.id}" for cell in read_manifest(folder / "m.yaml").cells)
        self.slurm(scontrol=UP, squeue="", sacct="", scancel=f'echo "$@" >> {folder}/cancelled')

    def slurm(self, **scripts: str) -> None:
        for name, script in scripts.items():
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.folder / "bin" / name).chmod(0o755)

    def queue(self, *lines: str) -> None:
        """Print `id|state|reason|node|comment` lines from squeue; the ended ones only with `-t all`."""
        active = [line for line in lines if line.split("|")[1] in ("PENDING", "RUNNING")]
        tables = ["\n".join(some) for some in (lines, active)]
        self.slurm(squeue='case "$*" in *"-t all"*) cat <<A\n{}\nA\n;; *) cat <<A\n{}\nA\n;; esac'.format(*tables))

    def submitted(self, tag: str, job: str, *keys: str) -> None:
        self.ledger.note(entry(tag, "c", keys).model_copy(update={"id": job}))

    def words(self) -> list[tuple[str, str]]:
        found, _ = states(read_manifest(self.folder / "m.yaml"), self.folder / "runs", self.folder / "data")
        return [(state.word, state.reason) for state in found]

    def run(self, command):
        options = [self.folder / "m.yaml", "--runs", self.folder / "runs", "--data", self.folder / "data"]
        return CliRunner().invoke(command.app, [*map(str, options)])

    @property
    def cancelled(self) -> list[str]:
        file = self.folder / "cancelled"
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def place(tmp_path, monkeypatch):
    return Place(tmp_path, monkeypatch)


BANNER = "**********\n** RESTORE SLURMCTLD DAEMON TO SERVICE **\n**********"
REFUSED = "Batch job submission failed: Job violates policy"


@pytest.mark.parametrize(
    ("command", "output", "words"),
    [
        ("scontrol", f"Slurmctld(primary) at n0 is DOWN\n{BANNER}", "Slurmctld(primary) at n0 is DOWN"),
        ("scontrol", BANNER, "RESTORE SLURMCTLD DAEMON TO SERVICE"),
        ("squeue", "slurm_load_jobs error: Unable to contact controller\n=====\n", "Unable to contact controller"),
        (
            "sbatch",
            f"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: {REFUSED}",
            f"{REFUSED} (AssocMaxSubmitJobLimit)",
        ),
        ("sacct", "*****\n-----\n", "nothing"),
    ],
)
def test_the_line_that_tells_the_error_is_found_between_decorations(command, output, words):
    assert last_words(command, output) == f"{command}: {words}"


@pytest.mark.parametrize(
    "reason",
    ["JobHeldUser", "JobHeldAdmin", "launch failed requeued held", "job requeued in held state", "JobHoldMaxRequeue"],
)
def test_held_jobs_are_named_with_the_command_that_releases_them(place, reason):
    place.submitted(OURS, "7", *place.keys)
    place.queue(f"7_0|PENDING|{reason}||{OURS}", f"7_1|RUNNING|None|n1|{OURS}")
    (word, text), running = place.words()
    assert word == "held" and running == ("running", "")
    assert text.startswith(reason) and "scontrol release 7, or cancel and submit again" in text
    said = place.run(status)
    assert said.exit_code == 0 and "1 held" in " ".join(said.output.split())


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("NODE_FAIL", "submit again"),
        ("TIMEOUT", "time: in the profile"),
        ("OUT_OF_MEMORY", "mem: in the profile"),
        ("PREEMPTED", "submit again"),
        ("CANCELLED by 1000", "cancelled by 1000 (submit again)"),
        ("BOOT_FAIL", "exclude: in the profile"),
        ("DEADLINE", "a later one"),
        ("REVOKED", "submit again"),
    ],
)
def test_each_end_is_told_with_its_cause_and_remedy_by_accounts_or_the_controller(place, word, remedy):
    place.submitted(OURS, "7", place.keys[0])
    place.slurm(sacct=f"echo '7|{word}|n1|'")
    assert place.words()[0] == ("failed", cause("7", word)[1])
    assert remedy in place.words()[0][1] and place.words()[0][1].startswith(word.split()[0])
    place.slurm(sacct=NO_ACCOUNTS)
    place.queue(f"7|{word}|None|n1|{OURS}")
    assert place.words()[0] == ("failed", cause("7", word)[1])
    assert "Problem talking to the database" in " ".join(place.run(status).output.split())


def test_accounts_that_lag_are_passed_over_for_the_controllers_word(place):
    place.submitted(OURS, "7", place.keys[0])
    place.slurm(sacct="echo '7|RUNNING|n1|'")
    place.queue(f"7|NODE_FAIL|None|n1|{OURS}")
    assert place.words()[0][1].startswith("NODE_FAIL")


def test_a_job_whose_id_was_given_again_is_neither_taken_for_ours_nor_cancelled(place):
    place.submitted(OURS, "7", place.keys[0])
    place.submitted(OTHER, "7", "train/of-another-manifest")
    place.queue(f"7|RUNNING|None|n1|{OTHER}", "8|RUNNING|None|n1|mine by hand")
    lost = ("failed", "Slurm lost it: 7 is another job now (submit again)")
    assert place.words()[0] == lost
    done = place.run(cancel)
    assert (done.exit_code, done.output) == (0, "no job of this manifest is queued\n") and not place.cancelled
    # The other has ended, and the accounts keep no comments: its end is not ours.
    place.slurm(squeue="", sacct="echo '7|TIMEOUT|n1|'")
    assert place.words()[0] == lost
    # A job that no ledger notes has the id of ours.
    place.submitted(OURS, "8", place.keys[0])
    place.queue("8|RUNNING|None|n1|mine by hand")
    assert place.words()[0][1].startswith("Slurm lost it: 8")
    place.slurm(squeue="", sacct="echo '8|TIMEOUT|n1|mine by hand'")
    assert "TIMEOUT" not in place.words()[0][1]


def test_an_older_array_that_slurm_shows_keeps_its_id(place):
    place.submitted(OURS, "7", place.keys[0])
    place.submitted(OTHER, "7", place.keys[1])
    place.queue(f"7|RUNNING|None|n1|site: {OURS}")
    assert [word for word, _ in place.words()] == ["running", "failed"]


def test_half_an_array_is_requeued_and_cancel_ends_what_is_left_of_it(place):
    place.submitted(OURS, "7", *place.keys)
    place.slurm(sacct="echo '7_1|PREEMPTED|n1|'")
    place.queue(f"7_0|PENDING|BeginTime||{OURS}")
    (requeued, ended) = place.words()
    assert requeued == ("waiting", "BeginTime: requeued, starts soon") and ended[1].startswith("PREEMPTED")
    place.slurm(scancel=f'echo "$@" >> {place.folder}/cancelled; printf "#!/bin/sh\\n" > {place.folder}/bin/squeue')
    assert place.run(cancel).output == "cancelled 1 job\n" and place.cancelled == ["7_0"]


def test_cancel_ends_a_job_that_slurm_holds_after_its_work_is_done(place):
    place.submitted(OURS, "7", place.keys[0])
    place.queue(f"7|PENDING|launch failed requeued held||{OURS}")
    (place.folder / "runs" / place.keys[0].removeprefix("train/")).mkdir()
    (place.folder / "runs" / place.keys[0].removeprefix("train/") / "model.pt").touch()
    place.slurm(scancel=f'echo "$@" >> {place.folder}/cancelled; printf "#!/bin/sh\\n" > {place.folder}/bin/squeue')
    assert place.words()[0] == ("finished", "")
    assert place.run(cancel).output == "cancelled 1 job\n" and place.cancelled == ["7"]


def test_while_slurm_does_not_answer_status_tells_what_ledger_and_records_do(place):
    place.submitted(OURS, "7", place.keys[0])
    place.slurm(scontrol=DOWN)
    assert [word for word, _ in place.words()] == ["submitted", "not submitted"]
    said = place.run(status)
    text = " ".join(said.output.split())
    assert said.exit_code == 0 and "as Slurm does not answer (scontrol: Slurmctld(primary) at n0 is DOWN)" in text
    assert "***" not in text


@pytest.mark.parametrize("fault", [{"scontrol": DOWN}, {"squeue": UNREACHABLE}])
def test_cancel_takes_no_silence_for_an_empty_queue(place, fault):
    place.submitted(OURS, "7", place.keys[0])
    place.slurm(**fault)
    done = place.run(cancel)
    assert done.exit_code == 2 and "cancel again once Slurm answers" in done.stderr and not place.cancelled
    assert done.stderr.count("\n") == 1 and "*" not in done.stderr


def test_cancel_says_how_many_slurm_would_not_cancel_and_minds_none_that_ended(place):
    place.submitted(OURS, "7", place.keys[0])
    place.queue(f"7|RUNNING|None|n1|{OURS}")
    refusal = "echo 'scancel: error: Kill job error on job id 7: Access denied' >&2; exit 1"
    place.slurm(scancel=refusal)
    done = place.run(cancel)
    assert done.exit_code == 2 and "Access denied (1 of 1 job are queued still: cancel again)" in done.stderr
    place.slurm(scancel=f'printf "#!/bin/sh\\n" > {place.folder}/bin/squeue\n{refusal}')
    assert place.run(cancel).output == "cancelled 1 job\n"


def waves_of(place) -> list[Wave]:
    tasks = [CallTask(name=key, ranks=ranks, function=print, args=()) for ranks, key in enumerate(place.keys, 1)]
    return [Wave(name="train0", after=None, jobs=tuple(Job(task=task, progress=TaskProgress()) for task in tasks))]


def launched(place) -> list:
    logs = place.folder / "logs"
    return slurm.launch("m", lambda: waves_of(place), logs, Profile(gpus_per_rank=0), place.ledger)


NUMBERED = """n=$(cat {0}/count 2>/dev/null || echo 0); echo $((n + 1)) > {0}/count
tag=$(grep -oh 'comment=.*' "$1" | cut -d= -f2 | tr -d '"')
[ $n -lt {1} ] || {{ {2}; }}
echo "$((n + 1))|PENDING|Resources||$tag" >> {0}/queue
echo "Submitted batch job $((n + 1))" """


def test_a_refusal_takes_back_what_was_queued_and_a_lost_answer_too(place):
    limit = "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; echo 'sbatch: error: Job violates policy' >&2; exit 1"
    place.slurm(
        sbatch=NUMBERED.format(place.folder, 1, limit), srun="", squeue=f"cat {place.folder}/queue 2>/dev/null; :"
    )
    with pytest.raises(ValueError, match=r"AssocMaxSubmitJobLimit\) \(nothing is queued; --only PATTERN submits fewer"):
        launched(place)
    assert place.cancelled == ["1"]
    (place.folder / "queue").unlink()
    # The controller queues the array and is killed before it answers.
    late = (
        f'echo "2|PENDING|Resources||$tag" >> {place.folder}/queue; echo "sbatch: error: Socket timed out" >&2; exit 1'
    )
    (place.folder / "count").unlink()
    place.slurm(sbatch=NUMBERED.format(place.folder, 1, late))
    with pytest.raises(ValueError, match=r"Socket timed out \(nothing is queued\)"):
        launched(place)
    assert place.cancelled == ["1", "1", "2"]
    # It does not answer at all: what it has queued is recognized by its tag and not queued again.
    for name in ("count", "queue"):
        (place.folder / name).unlink()
    place.slurm(sbatch=NUMBERED.format(place.folder, 1, f"touch {place.folder}/gone; {late}"))
    place.slurm(squeue=f"[ ! -e {place.folder}/gone ] || {{ {UNREACHABLE}; }}; cat {place.folder}/queue 2>/dev/null; :")
    with pytest.raises(
        ValueError, match="some jobs may be queued: submit again once Slurm answers, which queues none twice"
    ):
        launched(place)
    (place.folder / "gone").unlink()
    assert launched(place) == [] and (place.folder / "count").read_text() == "2\n"


def test_a_submission_killed_before_it_noted_the_id_is_recognized_by_its_tag(place):
    place.ledger.note(entry(OURS, "c", place.keys))
    place.queue(f"7_0|PENDING|Resources||{OURS}", f"7_1|PENDING|Resources||{OURS}")
    assert [word for word, _ in place.words()] == ["waiting", "waiting"]
    place.slurm(sbatch="exit 1", srun="")
    assert launched(place) == []


def test_jobs_of_a_ledger_that_is_gone_are_not_queued_again(place):
    scripts = (f"{place.folder}/{name}/.submission_file_1.sh" for name in ("logs", "logs2"))
    place.slurm(sbatch=NUMBERED.format(place.folder, 9, ":"), srun="")
    paths = "7|{}\\n8|{}\\n".format(*scripts)
    states = f"7|RUNNING|None|n1|{OURS}\\n8|RUNNING|None|n1|{OTHER}\\n"
    place.slurm(squeue=f'case "$*" in *%o*) printf "{paths}";; *) printf "{states}";; esac')
    expected = r"queue\.jsonl: tells nothing of the queued jobs 7, whose logs are in .*scancel 7\)"
    with pytest.raises(ValueError, match=expected):
        launched(place)
    assert not (place.folder / "count").exists()
    place.submitted(OURS, "7", "train/another")
    assert len(launched(place)) == 2


@pytest.mark.parametrize("instead", ["nothing", "an empty folder"])
def test_a_runs_folder_that_goes_away_during_a_submission_queues_nothing_elsewhere(place, instead):
    place.slurm(sbatch=NUMBERED.format(place.folder, 9, ":"), srun="")
    runs, away = place.folder / "runs", place.folder / "away"
    place.ledger = Ledger(runs)
    runs.rename(away)
    if instead == "an empty folder":
        runs.mkdir()
    with pytest.raises(ValueError, match=r"runs: gone, or another folder than before \(is its storage mounted\?\)"):
        launched(place)
    assert not (place.folder / "count").exists() and runs.exists() == (instead != "nothing")
    if runs.exists():
        runs.rmdir()
    away.rename(runs)
    assert len(launched(place)) == 2


SUBMITTER = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from calls import CallTask, wave
from launchers import slurm
from launchers.ledger import Ledger
from launchers.profile import Profile
folder = Path(sys.argv[1])
waves = [wave(CallTask(name="task"))]
slurm.launch("m", lambda: waves, folder / "logs", Profile(gpus_per_rank=0), Ledger(folder / "runs"))
"""


def test_sbatch_does_not_outlive_a_submitter_that_is_killed(place):
    place.slurm(sbatch=f"echo $$ > {place.folder}/begun; exec sleep 1000", srun="")
    with subprocess.Popen([sys.executable, "-c", SUBMITTER, place.folder], cwd=ROOT) as submitter:
        pid = place.folder / "begun"
        until(lambda: pid.exists() and pid.read_text().endswith("\n"), lambda: submitter.poll() is None)
        sbatch = Path("/proc") / pid.read_text().strip()
        assert sbatch.exists()
        submitter.kill()
    until(lambda: not sbatch.exists() or "\nState:\tZ" in sbatch.joinpath("status").read_text())


def test_a_comment_of_several_lines_and_unknown_words_are_no_other_jobs(place):
    place.slurm(squeue="printf '7|RUNNING|None|n1|a|b\\nrest of the comment\\n8|NEW_WORD|None|n1|c\\n'")
    assert [(seen.job, seen.state, seen.reason, seen.tag) for seen in queued().values()] == [
        ("7", "running", "", "a|b"),
        ("8", "running", "NEW_WORD", "c"),
    ]
    assert ask_slurm().cluster == "c"


def test_the_ledger_may_hold_damaged_lines(place):
    place.submitted(OURS, "7", place.keys[0])
    with open(place.ledger.file, "ab") as file:
        file.write(b"\xff\n" + json.dumps({"tag": 5}).encode() + b"\n[" * 3)
    place.queue(f"7|RUNNING|None|n1|{OURS}")
    assert place.words()[0] == ("running", "")


@pytest.mark.parametrize("end", ["\n", "", "\n\n"])
def test_the_test_cluster_takes_its_own_line_alone_and_removes_no_other_folder(tmp_path, end):
    hosts, folder = tmp_path / "hosts", tmp_path / "cluster"
    first = "127.0.0.1 localhost\n127.0.0.1 n1 n2 # testcluster"
    others = f"{first}\n127.0.0.1 n1 n2 # testcluster {folder}2{end}"
    hosts.write_text(f"{first}\n127.0.0.1 n1 n2 # testcluster {folder}\n127.0.0.1 n1 n2 # testcluster {folder}2{end}")
    command = [ROOT / "slurm" / "testcluster.sh", "down"]
    environment = os.environ | {"HOSTS": str(hosts)}
    for _ in range(2):
        subprocess.run([*command, folder], env=environment, check=True)
        # grep ends the last line where it has no end.
        assert hosts.read_text() == (others if end else f"{others}\n")
    (tmp_path / "home" / "log").mkdir(parents=True)
    refused = subprocess.run([*command, tmp_path / "home"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "is no test cluster's" in refused.stderr and (tmp_path / "home" / "log").exists()
