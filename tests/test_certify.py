"""The engine against the plain procedure, folding, tables of certificates, the command line, and what reports say."""

import copy
import hashlib
import math
import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, bootstrap, norm
from torch import nn
from typer.testing import CliRunner

from bench.certify import app
from bench.commands import smoothing_tsv
from bench.jobs import evaluate
from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.manifest.plugin_spec import spec
from bench.records import Verdict, read_all
from bench.results import intervals
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.statistics import wilson
from crt.data.sources import digits as load_digits
from crt.evals.smoothing import Smoothing, least
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import fold
from crt.plugins import find
from crt.threat import Threat
from reports.figures import certificates as certificate_figures
from reports.tables.certificates import certificates
from reports.tables.robustness import robustness
from reports.tables.timing import timing

SIGMA, N, N0, ALPHA, SEED = 0.5, 1050, 130, 0.001, 3


def body() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """A network with BatchNorm trained a little under noise, and test images it is right, wrong and unsure of.

    In float64: of the 25,000 draws, rounding to float32 would put some in another class, others on each processor.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(body(), 64, 10, (0.3,) * 3, (0.4,) * 3).double()
        x, y = (torch.from_numpy(part) for part in load_digits("train"))
        x = x.permute(0, 3, 1, 2)[..., ::2, ::2].double().div(255)
        steps = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(40):
            some = torch.randint(len(x), (64,))
            loss = nn.functional.cross_entropy(model(x[some] + SIGMA * torch.randn_like(x[some])), y[some])
            steps.zero_grad()
            loss.backward()
            steps.step()
    images, labels = load_digits("test")
    x = torch.from_numpy(images[:16]).permute(0, 3, 1, 2)[..., ::2, ::2].double().div(255)
    x = torch.cat([x, (x[:6] + x[6:12]) / 2]).contiguous()
    labels = [*labels[:16].tolist(), *labels[:6].tolist()]
    return model.eval(), [(image, label, (SEED, i)) for i, (image, label) in enumerate(zip(x, labels, strict=True))]


def plain(model: nn.Module, x: torch.Tensor, index: int) -> tuple[int, float]:
    """Cohen et al.'s CERTIFY of one image: every draw made, no layer folded, the bound by root finding."""

    def counts(n: int, stream: int) -> np.ndarray:
        found = np.zeros(10, int)
        for start in range(0, n, 100):
            words = repr((SEED, index, stream, start // 100)).encode()
            seed = int.from_bytes(hashlib.sha256(words).digest()[:8], "big") >> 1
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(100, *x.shape, generator=generator, dtype=x.dtype)[: n - start]
            with torch.no_grad():
                found += np.bincount(model(x + SIGMA * noise).argmax(1).numpy(), minlength=10)
        return found

    cA = int(np.argmax(counts(N0, 0)))
    nA = int(counts(N, 1)[cA])
    bound = brentq(lambda p: binom.sf(nA - 1, N, p) - ALPHA, 0, 1, xtol=1e-15) if nA else 0.0
    return (-1, 0.0) if bound < 0.5 else (cA, SIGMA * norm.ppf(bound))


@pytest.fixture(scope="module")
def expected(trained):
    model, questions = trained
    return [plain(model, x, index) for x, _, (_, index) in questions]


def smoothing(**changes) -> Smoothing:
    return Smoothing(**({"threat": Threat(sigma=SIGMA), "n": N, "n0": N0, "alpha": ALPHA} | changes))


@pytest.mark.parametrize("batch", [1, 300, 1000])
def test_engine_finds_what_the_plain_procedure_finds(trained, expected, batch):
    model, questions = trained
    found = list(smoothing(skip_wrong=False, batch=batch).judge_many(model, questions))
    assert [f.prediction for f in found] == [prediction for prediction, _ in expected]
    assert [f.radius for f in found] == pytest.approx([radius for _, radius in expected], abs=1e-10)
    assert {(f.details["folded"], f.details["unfolded"]) for f in found} == {(2, 0)}
    assert {f.prediction == -1 for f in found} == {True, False} and not any(f.skipped for f in found)
    assert batch == 1000 or any(f.details["drawn"] < N for f in found)


def test_skipping_wrong_images_moves_neither_acr_nor_certified_accuracy(trained, expected):
    model, questions = trained
    found = list(smoothing().judge_many(model, questions))
    labels = [y for _, y, _ in questions]
    right = [(p == y, r * (p == y)) for (p, r), y in zip(expected, labels, strict=True)]
    assert [(f.prediction == y, f.radius) for f, y in zip(found, labels, strict=True)] == [
        (correct, pytest.approx(radius, abs=1e-10)) for correct, radius in right
    ]
    skipped = [(f, y) for f, y in zip(found, labels, strict=True) if f.skipped]
    assert skipped and all(f.prediction not in (-1, y) and "n" not in f.details for f, y in skipped)


def test_bound_by_root_finding_and_the_count_that_certifies():
    assert least(100_000, 0.001) == 50_490 and least(10, 0.001) == 10
    for n in (10, 37, 1000):
        assert binomtest(least(n, 0.001), n, alternative="greater").pvalue <= 0.001
        assert binomtest(least(n, 0.001) - 1, n, alternative="greater").pvalue > 0.001


class Says(nn.Module):
    """A network that gives each input the next of the votes."""

    def __init__(self, classes: list[int]):
        super().__init__()
        self.votes = iter(nn.functional.one_hot(torch.tensor(classes), 2).float())

    def forward(self, x):
        return torch.stack([next(self.votes) for _ in x])


def test_early_stop_never_changes_a_verdict():
    chance, stopped = random.Random(0), 0
    for _ in range(150):
        n, p = chance.randrange(10, 3000), chance.choice([0.0, 0.3, 0.45, 0.5, 0.52, 0.55, 0.9, 1.0])
        classes = [0] * 100 + [int(chance.random() >= p) for _ in range(n)]
        evaluation = smoothing(n=n, n0=100, batch=chance.choice([100, 300, 1000]))
        found = evaluation.judge(Says(classes), torch.zeros(1, 1, 1), 0, (0, 0))
        hits = n - sum(classes)
        whole = binomtest(hits, n, alternative="greater").pvalue <= ALPHA
        assert (found.prediction == 0) == whole and (found.radius > 0) == whole
        if whole:
            low = binomtest(hits, n, alternative="greater").proportion_ci(1 - ALPHA, "exact").low
            assert found.radius == pytest.approx(SIGMA * norm.ppf(low), abs=1e-9) and found.details["drawn"] == n
        stopped += found.details["drawn"] < n
    assert stopped > 20


@pytest.mark.parametrize("options", [{"channels_last": True}, {"precision": "bf16"}])
def test_options_are_named_and_leave_the_network_alone(trained, options):
    model = copy.deepcopy(trained[0]).float()
    questions = [(x.float(), y, seed) for x, y, seed in trained[1]]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, bare = (list(smoothing(skip_wrong=False, **some).judge_many(model, questions)) for some in (options, {}))
    assert sum(one.prediction == other.prediction for one, other in zip(found, bare, strict=True)) > 18
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype and value.is_contiguous()
    threat = Threat(sigma=SIGMA)
    bare, given = (spec("crt.evals", {"Smoothing": o}, threat, "e") for o in ({}, options))
    assert bare.id != given.id and given.label == f"Smoothing({next(iter(options))}={next(iter(options.values()))})"
    assert spec("crt.evals", {"Smoothing": {"batch": 300}}, threat, "e").id == bare.id


@pytest.mark.parametrize("arch", ["resnet20", "dla", "regnetx_200mf"])
def test_folding_is_exact_to_rounding(arch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(*find("crt.archs", arch)(), 10, (0.5,) * 3, (0.2,) * 3).double().eval()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for layer in norms:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
        x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    network, gone, left = fold(model)
    assert (gone, left) == (len(norms), 0) and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    with torch.no_grad():
        logits = model(x)
        assert float((network(x) - logits).abs().max() / logits.abs().max()) < 1e-11


class _Wavers(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(x)) if x.mean() > -9 else x


class _Twice(_Wavers):
    def forward(self, x):
        return self.conv(self.norm(self.conv(x)))


class _Apart(_Wavers):
    def forward(self, x):
        return self.norm(self.conv(x).relu())


def _hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    model[0].register_forward_pre_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "why"), [(_Wavers, "cannot be traced"), (_Twice, "used twice"), (_hooked, "hooks"), (_Apart, None)]
)
def test_what_is_not_folded_is_said(make, why):
    model = make().eval()
    if why:
        with pytest.warns(UserWarning, match=why):
            assert fold(model) == (model, 0, 1)
    else:
        network, gone, left = fold(model)
        assert (gone, left) == (0, 1)
        x = torch.rand(2, 3, 4, 4)
        assert torch.equal(network(x), model(x))


def test_table_round_trip_and_both_forms_of_time(tmp_path):
    file = tmp_path / "some" / "t.tsv"
    rows = [
        smoothing_tsv.Row(idx=0, label=3, predict=3, radius=0.1 + 0.2, time=3723.000004),
        smoothing_tsv.Row(idx=20, label=8, predict=-1, radius=0.0, time=59.9999999),
    ]
    assert smoothing_tsv.resume(file) == []
    for row in rows:
        smoothing_tsv.append(file, row)
    assert file.read_text().splitlines() == [
        "idx\tlabel\tpredict\tradius\tcorrect\ttime",
        f"0\t3\t3\t{0.1 + 0.2}\t1\t1:02:03.000004",
        "20\t8\t-1\t0.0\t0\t0:01:00.000000",
    ]
    found = smoothing_tsv.read(file)
    assert [r.time for r in found] == pytest.approx([3723.000004, 60]) and [r.correct for r in found] == [True, False]
    file.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n40\t1\t1\t0.953\t1\t16.25\n\n")
    with open(file, "a") as out:
        out.write("idx\tlabel\tpredict\tradius\tcorrect\ttime\n60\t1\t2\t0.2\t0\t0:00:16\n80\t1\t2\t0.2\t0\t0:0")
    assert [(r.idx, r.time) for r in smoothing_tsv.resume(file)] == [(40, 16.25), (60, 16.0)]
    assert file.read_text().endswith("0:00:16\n")


@pytest.mark.parametrize("line", ["1\t2\t3", "1\t2\tcat\t0.1\t0\t1.0", "1\t2\t3\t0.1\t0\t1:0", "1 2 3 0.1 0 1.0"])
def test_line_that_is_no_row_is_named(tmp_path, line):
    (tmp_path / "t.tsv").write_text(f"idx\tlabel\tpredict\tradius\tcorrect\ttime\n{line}\n")
    with pytest.raises(ValueError, match=r"t\.tsv, line 2: "):
        smoothing_tsv.read(tmp_path / "t.tsv")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a convnet, as a cell leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(*find("crt.archs", "cnn2c2f")(), 10, (0.3055,) * 3, (0.3759,) * 3)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(model.state_dict(), path)
    return path


def certify(checkpoint, digits, out, *options: str):
    command = [str(checkpoint), "--arch", "cnn2c2f", "--dataset", "digits", "--sigma", "0.25", "--n", "100"]
    return CliRunner().invoke(app, [*command, "--data", str(digits), "--out", str(out), *options])


def answers(path) -> list[tuple]:
    return [(r.idx, r.label, r.predict, r.radius) for r in smoothing_tsv.read(path)]


def test_checkpoint_is_certified_and_gone_on_with(checkpoint, digits, tmp_path):
    whole, cut = tmp_path / "whole.tsv", tmp_path / "cut.tsv"
    result = certify(checkpoint, digits, whole, "--every", "20", "--images", "7")
    assert result.exit_code == 0, result.output
    assert [idx for idx, *_ in answers(whole)] == list(range(0, 140, 20))
    for words in ("7 of 360 images: 0, 20, …, 120", "certified at 0.00", "ACR", "skipped", "images/s"):
        assert words in result.output
    assert certify(checkpoint, digits, cut, "--every", "20", "--images", "3").exit_code == 0
    text = cut.read_text()
    cut.write_text(text[:-9])
    result = certify(checkpoint, digits, cut, "--every", "20", "--images", "7", "--batch", "300")
    assert result.exit_code == 0 and answers(cut) == answers(whole) and cut.read_text().startswith(text[:-12])
    untouched = cut.read_text()
    assert certify(checkpoint, digits, cut, "--every", "20").exit_code == 0
    assert cut.read_text().startswith(untouched) and len(answers(cut)) == 18


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sigma", "0"], "sigma > 0"),
        (["--n0", "0"], "error: --n0: 0: Input should be greater than or equal to 1"),
        (["--every", "0"], "error: --every: 0: Input should be greater than or equal to 1"),
        (["--batch", "0"], "batch: 0: Input should be greater than or equal to 1"),
        (["--precision", "tf32"], "tf32"),
        (["--n", "5"], "n=5 is too small for alpha=0.001"),
        (["--arch", "resnet21"], "--arch resnet21: unknown (allowed: cnn2c2f"),
        (["--arch", "resnet20"], "model.pt: "),
        (["--dataset", "mnist"], "allowed: cifar10"),
        (["--dataset", "cifar10"], "(it goes by pipeline and dataset: choose the file's)"),
        (["--seed", "1"], "made with seed 0, not 1"),
        (["--out", "/proc/t.tsv"], "/proc/t"),
    ],
)
def test_refused_in_one_line(checkpoint, digits, tmp_path, options, words):
    assert certify(checkpoint, digits, tmp_path / "t.tsv", "--images", "1").exit_code == 0
    result = certify(checkpoint, digits, tmp_path / "t.tsv", *options)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.output


def test_no_checkpoint_and_a_table_of_unknown_settings_are_refused(checkpoint, digits, tmp_path):
    assert "none.pt: missing" in certify(tmp_path / "none.pt", digits, tmp_path / "t.tsv").stderr
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    assert "bad.pt: is text, not weights" in certify(tmp_path / "bad.pt", digits, tmp_path / "t.tsv").stderr
    (tmp_path / "t.tsv").write_text("")
    result = certify(checkpoint, digits, tmp_path / "t.tsv")
    assert result.exit_code == 2 and "t.json" in result.stderr


EVALS = "[Clean: {images: 5}, Smoothing: {n: 100, n0: 10, images: 6, skip_wrong: %s}]"


def test_judging_cut_off_at_any_image_goes_on_and_reports_what_it_found(tiny, digits, tmp_path, monkeypatch):
    manifest = tiny(method="Gaussian", evals=EVALS % "true", loader="device", epochs=1)
    cell, found, step = manifest.cells[0], [], evaluate.Progress.step

    def dies(self, note):
        if self.done % 3 == 2:
            raise InterruptedError
        step(self, note)

    run_cell(cell, JobPaths(runs=tmp_path / "whole", data=digits, process="shared"))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("whole", "cut"):
        at = JobPaths(runs=tmp_path / name, data=digits, process="shared")
        if name == "cut":
            monkeypatch.setattr(evaluate.Progress, "step", dies)
            for _ in range(3):
                with pytest.raises(InterruptedError):
                    evaluate.run_judge(cell, 0, 1, at)
            monkeypatch.undo()
        evaluate.run_judge(cell, 0, 1, at)
        verdicts = [r for r in read_all(at.runs / cell.id) if isinstance(r, Verdict)]
        found.append([v.model_copy(update={"seconds": 0.0}) for v in verdicts])
    assert found[0] == found[1] and len(found[0]) == 11
    row = robustness(load(manifest, [at.runs])).iloc[0]
    smoothed = [v for v in verdicts if v.eval.startswith("Smoothing")]
    assert row["skipped"] == sum(v.skipped for v in smoothed) and math.isnan(row["abstained"])
    assert row["judge_seconds"] == pytest.approx(sum(v.seconds for v in smoothed))
    assert row["acr"] == pytest.approx(np.mean([v.radius * (v.prediction == v.label) for v in smoothed]))


def verdict(index: int, prediction: int, radius: float, **more) -> Verdict:
    return Verdict(eval="e", index=index, label=1, prediction=prediction, radius=radius, seconds=2.0, **more)


def measured(tiny, tmp_path, evals: str, verdicts: list[Verdict]) -> list[Measured]:
    cell = tiny(evals=evals).cells[0]
    return [Measured(cell, tmp_path, verdicts={cell.evals[-1].id: {v.index: v for v in verdicts}})]


def test_report_counts_skipped_wrong_and_abstained_as_zero(tiny, tmp_path):
    verdicts = [verdict(0, 1, 0.25), verdict(1, 1, 0.4), verdict(2, 0, 0.5), verdict(3, -1, 0.0)]
    row = robustness(measured(tiny, tmp_path, EVALS % "false", verdicts)).iloc[0]
    assert (row["abstained"], row["skipped"], row["judge_seconds"], row["images"]) == (0.25, 0, 8.0, 4)
    assert row["acr"] == pytest.approx(0.65 / 4)
    assert [row[f"certified_at_{r}"] for r in ("0.00", "0.25", "0.50")] == [0.5, 0.5, 0.0]
    verdicts[2] = verdict(2, 0, 0.0, skipped=True)
    row = robustness(measured(tiny, tmp_path, EVALS % "true", verdicts)).iloc[0]
    assert math.isnan(row["abstained"]) and row["skipped"] == 1 and row["acr"] == pytest.approx(0.65 / 4)


def test_curves_show_the_shares(tiny, tmp_path):
    verdicts = [
        verdict(0, 1, 0.25, details={"pA_low": 0.84}),
        verdict(1, 1, 0.5, details={"pA_low": 0.97}),
        verdict(2, 0, 0.5, details={"pA_low": 0.97}),
        verdict(3, 0, 0.0, skipped=True),
    ]
    cells = measured(tiny, tmp_path, EVALS % "true", verdicts)
    frame = certificates(cells)
    assert list(frame["name"].unique()) == ["cnn2c2f Standard"] and list(frame["cell"].unique()) == [cells[0].id]
    times = timing(tiny(evals=EVALS % "true"), cells)
    plot = certificate_figures.certified(frame, times, [])
    axes = plot.axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 50], [0.25, 50], [0.5, 25], [0.5, 0]]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    ends = [wilson(count, 4) for count in (2, 1)]
    assert band.min() == pytest.approx(100 * ends[1].low) and band.max() == pytest.approx(100 * ends[0].high)
    with pytest.raises(ValueError, match="Smoothing has evaluated no image"):
        certificate_figures.certified(pd.DataFrame(columns=frame.columns), times, [])


def test_two_networks_on_the_same_images():
    a = [True] * 40 + [False] * 10 + [True] * 30
    b = [True] * 30 + [True] * 10 + [False] * 10 + [True] * 30
    only_a, only_b = sum(x and not y for x, y in zip(a, b)), sum(y and not x for x, y in zip(a, b))  # noqa: B905
    tail = sum(math.comb(only_a + only_b, k) for k in range(min(only_a, only_b) + 1)) / 2 ** (only_a + only_b)
    assert intervals.mcnemar(a, b) == pytest.approx(min(1, 2 * tail)) == intervals.mcnemar(b, a)
    assert intervals.mcnemar([True] * 9, [False] * 9) == pytest.approx(2 / 2**9) and intervals.mcnemar(a, a) == 1.0
    draws = np.random.default_rng(0)
    base = draws.normal(0.5, 0.3, 400)
    better = base + draws.normal(0.05, 0.1, 400)
    mean, low, high = intervals.paired_difference(list(better), list(base))
    half = norm.ppf(0.975) * np.std(better - base) / 20
    assert mean == pytest.approx(np.mean(better - base))
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)
    library = bootstrap((np.subtract(better, base),), np.mean, method="percentile", batch=7, rng=0)
    assert (low, high) == pytest.approx(library.confidence_interval)
    assert intervals.paired_difference([0.5] * 5, [0.25] * 5) == pytest.approx((0.25, 0.25, 0.25))
    assert (
        math.isnan(intervals.paired_difference([], []).mean) and intervals.paired_difference([0.5], [0.0]).mean == 0.5
    )
