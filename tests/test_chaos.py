"""The chaos campaign's frame with made-up kinds, and a slice of it on a real Slurm."""

import json
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.chaos import __main__ as chaos
from tests.chaos import cluster
from tests.chaos.campaign import Campaign, attempt_seed
from tests.chaos.kind import Kind, Outcome

NEVER = float("inf")


class Made:
    """A made-up kind, of which every `breaks`-th seed breaks; it counts what is asked of it."""

    def __init__(self, name="made", breaks=0, outcomes=1, total=5, error=None):
        self.prepared, self.seeds, self.shrunk = 0, [], 0
        self.breaks, self.outcomes, self.error = breaks, outcomes, error
        self.kind = Kind(name, "two and two make four", total, self.prepare, self.attempt, self.shrink)

    def prepare(self, folder: Path) -> None:
        self.prepared += 1
        (folder / "shared").touch()

    def attempt(self, folder: Path, seed: int) -> list[Outcome]:
        assert (folder / "shared").exists()
        self.seeds.append(seed)
        if self.error:
            raise self.error
        broken = "five" if self.breaks and len(self.seeds) % self.breaks == 0 else ""
        return [Outcome(f"try {k}", broken if k == self.outcomes - 1 else "") for k in range(self.outcomes)]

    def shrink(self, folder: Path, seed: int) -> str:
        self.shrunk += 1
        return f"half of {seed}"


def run(folder: Path, *made: Made, seed=0, number=None, seconds=NEVER) -> Campaign:
    campaign = Campaign(folder, seed, [each.kind for each in made], number)
    campaign.resume()
    campaign.run(seconds, lambda kind, attempt: None)
    return campaign


def test_a_campaign_tries_as_often_as_it_is_told_with_seeds_of_its_own(tmp_path):
    first, second, other = Made(), Made(), Made()
    assert run(tmp_path / "a", first).tried(first.kind) == 5
    run(tmp_path / "b", second)
    run(tmp_path / "c", other, seed=1)
    assert first.seeds == second.seeds == [attempt_seed(0, "made", k) for k in range(5)]
    assert len(set(first.seeds)) == 5 and not set(first.seeds) & set(other.seeds)
    assert first.prepared == 1


def test_a_seed_does_not_depend_on_the_other_kinds(tmp_path):
    alone, beside = Made("x"), Made("x")
    run(tmp_path / "alone", alone)
    run(tmp_path / "beside", Made("y", total=50), beside)
    assert alone.seeds == beside.seeds


def test_a_campaign_goes_on_where_it_stopped(tmp_path):
    first, second, whole = Made(), Made(), Made()
    run(tmp_path / "a", first, number=2)
    assert run(tmp_path / "a", second).tried(second.kind) == 5 and second.prepared == 0
    run(tmp_path / "b", whole)
    assert first.seeds + second.seeds == whole.seeds
    assert len((tmp_path / "a" / "outcomes.jsonl").read_text().splitlines()) == 5


def test_the_outcomes_of_an_attempt_are_on_disk_before_the_next_begins(tmp_path):
    made, seen = Made(outcomes=2), []
    attempt = made.attempt

    def look(folder, seed):
        file = tmp_path / "outcomes.jsonl"
        seen.append(len(file.read_text().splitlines()) if file.exists() else 0)
        return attempt(folder, seed)

    made.kind = made.kind._replace(attempt=look)
    assert run(tmp_path, made).tried(made.kind) == 6  # an attempt is never cut short
    assert seen == [0, 1, 2]


def test_the_kind_that_is_behind_is_next_and_time_ends_the_campaign(tmp_path, monkeypatch):
    fast, slow = Made("fast", total=100), Made("slow", outcomes=10, total=20)
    ticks = count()
    monkeypatch.setattr("tests.chaos.campaign.time.monotonic", lambda: next(ticks))
    campaign = run(tmp_path, fast, slow, seconds=13)
    tried = campaign.tried(fast.kind), campaign.tried(slow.kind)
    assert len(fast.seeds) + len(slow.seeds) == 12 and tried[1] == 10 and tried[0] == 11


def test_an_attempt_that_fails_itself_is_told_as_broken(tmp_path):
    made = Made(error=OSError("no cluster"), total=1)
    ((outcome,),) = [attempt.broken for attempt in run(tmp_path, made).broken]
    assert outcome.broken == "OSError: no cluster"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line with made-up kinds."""

    def call(*words: object, **made: Made):
        monkeypatch.setattr(chaos, "KINDS", {name: each.kind._replace(name=name) for name, each in made.items()})
        return CliRunner().invoke(chaos.app, [*map(str, words), "--folder", str(tmp_path / "chaos")])

    return call


def test_the_table_counts_and_each_broken_one_has_its_shrunk_reproduction_and_command(command, tmp_path):
    good, bad = Made(), Made(breaks=3, outcomes=2, total=12)
    done = command("--seed", 3, good=good, bad=bad)
    assert done.exit_code == 1
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines() if "two and two" in line]
    assert [(row[0], row[-3:]) for row in rows] == [("good", ["5", "5", "0"]), ("bad", ["12", "10", "2"])]
    seeds = [bad.seeds[2], bad.seeds[5]]
    for seed in seeds:
        assert f"bad, seed {seed}: try 1\n  broken: five\n  shrunk: half of {seed}\n" in done.stdout
        assert f"python -m tests.chaos bad --only {seed} --folder {tmp_path / 'chaos'}\n" in done.stdout
    # It is found once.
    again = command("--seed", 3, good=good, bad=bad)
    assert again.exit_code == 1 and again.stdout == done.stdout and bad.shrunk == 2 and len(bad.seeds) == 6


def test_a_campaign_that_finds_nothing_ends_well(command):
    done = command(good=Made())
    assert done.exit_code == 0 and "broken:" not in done.stdout


def test_one_attempt_is_repeated_alone_and_not_counted(command, tmp_path):
    made = Made(outcomes=2, breaks=1)
    done = command("made", "--only", 77, made=made)
    assert (done.exit_code, done.stdout, made.seeds) == (1, "held   try 0\nBROKEN try 1: five\n", [77])
    assert not (tmp_path / "chaos" / "outcomes.jsonl").exists()
    assert command("made", "--only", 77, made=Made()).exit_code == 0


def test_a_kind_that_this_machine_lacks_something_for_is_left_out(command):
    lame, made = Made(), Made()
    lame.kind = lame.kind._replace(missing=lambda: "needs root")
    done = command(lame=lame, made=made)
    assert done.exit_code == 0 and done.stderr.startswith("note: lame is left out: needs root\n")
    assert not lame.seeds and len(made.seeds) == 5
    done = command("lame", lame=lame)
    assert done.exit_code == 2 and done.stderr == "error: lame: needs root\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "nothing: no kind of disturbance (allowed: a, b)"),
        (("--only", 5), "--only 5: is the seed of one kind (allowed: with one KIND)"),
        (("--seed", 9), "a campaign of seed 0, not of 9 (allowed: --seed 0, or another --folder)"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_tried(command, words, said):
    assert command("a", a=Made(total=1)).exit_code == 0
    a, b = Made(), Made()
    done = command(*words, a=a, b=b)
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and said in done.stderr
    assert not a.seeds and not b.seeds


def test_a_damaged_line_of_outcomes_is_named(command, tmp_path):
    assert command(a=Made(total=1)).exit_code == 0
    with open(tmp_path / "chaos" / "outcomes.jsonl", "a") as file:
        file.write(json.dumps({"kind": "a"}) + "\n")
    done = command(a=Made())
    assert done.exit_code == 2 and "outcomes.jsonl, line 2: no attempt" in done.stderr


@pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing())
def test_a_slice_of_the_campaign_on_a_real_slurm(tmp_path):
    cluster.prepare(tmp_path, ("small",))
    outcomes = cluster.attempt(tmp_path, 1, range(6), ("small",))
    assert not [outcome for outcome in outcomes if outcome.broken]
    assert len(outcomes) > 1
