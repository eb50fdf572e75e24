"""The judge of disturbed clusters finds each broken promise; disturbances follow their seed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench import submit
from bench.jobs.claim import new_claim
from tests.chaos import cluster
from tests.chaos.invariants import judge, queued_twice
from tests.chaos.kind import Outcome
from tests.chaos.run import Run
from tests.chaos.slurm import ROOT
from tests.chaos.user import Said, User


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (0, "queued 7", ""),
        (-9, "", ""),
        (2, "error: scontrol: Slurmctld is DOWN", ""),
        (2, "", "no error"),
        (1, "", "exit code 1"),
        (0, "Traceback (most recent call last)", "prints a traceback"),
        (130, "interrupted; the same command goes on\n", ""),
        (130, "stopped\n", "exit code 130"),
        (130, "", ""),
        (
            -2,
            f'Traceback:\n  File "{ROOT}/bench/submit.py", line 1, in <module>\nKeyboardInterrupt\n',
            "",
        ),
        (-2, f'Traceback:\n  File "{ROOT}/bench/submit.py", line 99, in main\nKeyboardInterrupt\n', "a traceback"),
    ],
)
def test_what_a_command_may_say_whatever_is_disturbed(code, text, words):
    broken = Said("bench.submit", "m", code, text).broken
    assert words in broken and bool(broken) == bool(words)


def test_disturbances_of_a_number_come_in_the_same_order_again_and_all_of_them():
    orders = [cluster._order(cluster.Random(f"1/{number}")) for number in range(400)]
    assert orders == [cluster._order(cluster.Random(f"1/{number}")) for number in range(400)]
    assert {order[0] for order in orders} == set(cluster.DISTURBANCES) and all(
        len(order) == len(cluster.DISTURBANCES) for order in orders
    )


def test_an_attempt_is_shrunk_to_the_half_that_breaks(monkeypatch, tmp_path):
    tries = []

    def attempt(folder, seed, chosen):
        tries.append(list(chosen))
        return [Outcome("x", "broken" if 13 in chosen else "")]

    monkeypatch.setattr(cluster, "attempt", attempt)
    monkeypatch.setattr(cluster, "COUNT", 40)
    assert cluster.shrink(tmp_path, 5) == "disturbances 10, 11, 12, 13, 14 of 40 (times differ from run to run)"


class EmptySlurm:
    """A cluster without jobs."""

    def ask(self, *command: str) -> str:
        return ""

    def processes(self) -> list:
        return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits) -> Path:
    """A folder with the runs of a cell that is trained and evaluated."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "m.yaml").write_text(
        "{dataset: digits, pipeline: plain, loader: device, images: 64, threat: {norm: l2, sigma: 0.25}, arch: cnn2c2f,"
        " recipe: {epochs: 2, batch_size: 32, lr: 0.01}, cells: [{method: Standard, evals: [Clean: {images: 4}]}]}"
    )
    where = ["--runs", str(folder / "runs"), "--data", str(digits), "--launcher", "inline"]
    done = CliRunner().invoke(submit.app, [str(folder / "m.yaml"), *where])
    assert done.exit_code == 0, done.output
    return folder / "runs"


def judged(runs: Path, reference: Path) -> list[str]:
    user = User(runs.parent / "user", runs, {}, ())
    return list(judge(Run(EmptySlurm(), user, None), reference))


def change(file: Path, *changes) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    for each in changes:
        lines = each(lines)
    file.write_bytes(b"".join(lines))


def again(kind: bytes):
    return lambda lines: [line for line in lines for _ in range(1 + line.startswith(b'{"kind":"%s"' % kind))]


def without(kind: bytes):
    return lambda lines: [line for line in lines if not line.startswith(b'{"kind":"%s"' % kind)]


def other_loss(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"loss":', b'"loss":1') for line in lines]


def other_weights(file: Path) -> None:
    weights = torch.load(file, weights_only=True)
    next(iter(weights.values())).view(-1)[0] += 1e-6
    torch.save(weights, file)


CHANGES = {
    "not recorded": lambda cell: change(cell / "train.jsonl", lambda lines: [*lines[:1], *lines[2:]]),
    "too often": lambda cell: change(cell / "train.jsonl", again(b"epoch")),
    "differs from the undisturbed run: [('epoch'": lambda cell: change(cell / "train.jsonl", other_loss),
    "ends with epoch": lambda cell: change(cell / "train.jsonl", without(b"end")),
    "too often, or differs from the undisturbed run: [('verdict'": lambda cell: change(
        *cell.glob("judge*.jsonl"), again(b"verdict")
    ),
    "not a JSON object": lambda cell: change(cell / "train.jsonl", lambda lines: [*lines[:1], b"{\n", *lines[1:]]),
    "model.pt: differs": lambda cell: other_weights(cell / "model.pt"),
    "model.pt: missing": lambda cell: (cell / "model.pt").unlink(),
    "left behind": lambda cell: (cell / "model.7.part").touch(),
    "a claim that blocks": lambda cell: (cell / "train.claim").write_text(new_claim().model_dump_json()),
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_broken_promise_is_found(words, finished, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    assert judged(runs, finished) == []
    (cell,) = runs.glob("cnn2c2f-*")
    CHANGES[words](cell)
    assert any(words in finding for finding in judged(runs, finished))


def test_a_task_with_two_jobs_is_found(tmp_path):
    user = User(tmp_path / "user", tmp_path, {}, ())
    lines = [{"tag": "a", "jobs": ["x", "y"]}, {"tag": "b", "jobs": ["y"]}]
    (tmp_path / "queue.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"tag": "c')
    slurm = EmptySlurm()
    slurm.ask = lambda *command: "1_0|a|RUNNING\n1_1|a|PENDING\n2|b|PENDING\n3|of another|RUNNING\n"
    assert list(queued_twice(Run(slurm, user, None))) == ["y is queued twice: 1_1|a|PENDING, 2|b|PENDING"]
