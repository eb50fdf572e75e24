"""The examples of CONTRIBUTING.md, each one file, trained, judged and reported with."""

import re
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import bench.submit
import reports.__main__
from crt import plugins
from crt.evals.base import Evaluation
from crt.threat import Threat
from crt.training.method import Step

ROOT = Path(__file__).parents[1]
EXAMPLES = dict(
    re.findall(r"`((?:crt|manifests)/[\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
)
FILES = {
    "crt/methods/label_smoothing.py",
    "crt/evals/random_search.py",
    "crt/evals/frobenius.py",
    "crt/archs/mlp.py",
    "manifests/smoothed.yaml",
}


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Iterator[Path]:
    """A folder with the examples as files, found beside the plug-ins that there are."""
    folder = tmp_path_factory.mktemp("added")
    for name, text in EXAMPLES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    paths = {package: import_module(f"crt.{package}").__path__ for package in ("methods", "evals", "archs")}

    def forget() -> None:
        for known in (plugins.modules, plugins.find, plugins._outline):
            known.cache_clear()

    for package, path in paths.items():
        path.append(str(folder / "crt" / package))
    forget()
    yield folder
    for path in paths.values():
        path.pop()
    forget()


@pytest.fixture(scope="module")
def reported(added) -> dict[str, str]:
    """The text of the report, and of each file that it writes, by name."""
    manifest, out = added / "manifests" / "smoothed.yaml", added / "out"
    out.mkdir()
    where = ["--runs", str(added / "runs")]
    trained = CliRunner().invoke(
        bench.submit.app, [str(manifest), *where, "--data", str(added / "data"), "--launcher", "inline"]
    )
    assert trained.exit_code == 0, trained.output
    files = {"--wide-csv": "r.csv", "--latex": "r.tex", "--out": "r.md", "--plot": "r.svg"}
    told = CliRunner().invoke(
        reports.__main__.app,
        [
            str(manifest),
            "--wide",
            *where,
            *(word for option, name in files.items() for word in (option, str(out / name))),
        ],
    )
    assert told.exit_code == 0, told.output
    return {"": told.output} | {file.name: file.read_text() for file in out.iterdir()}


def test_every_example_of_the_page_is_tried():
    assert set(EXAMPLES) == FILES


def test_the_table_of_the_csv_places_each_by_its_kind(reported):
    frame = pd.read_csv(StringIO(reported["r-robustness.csv"])).set_index(["method", "judge"])
    attack, bound = (frame.xs(name, level="judge") for name in ("RandomSearch", "Frobenius"))
    assert attack["at_eps"].between(0, 1).all() and attack["acr"].isna().all()
    assert attack.loc["Standard", "paper_at_eps"] == 0.8 and bound["paper_at_eps"].isna().all()
    assert frame.xs("PGD", level="judge")["paper_at_eps"].isna().all(), "the printed figure is of the first attack"
    assert (bound["acr"] > 0).all() and (bound["at_eps"] <= attack["at_eps"]).all()
    assert (frame["clean"] == frame["clean"].groupby("method").transform("first")).all()


def test_a_new_attack_is_checked_with_the_others_and_a_new_bound_is_not(reported):
    masking = pd.read_csv(StringIO(reported["r-masking.csv"]))
    assert set(masking["weakest"]) | set(masking["strongest"]) == {"RandomSearch", "PGD(steps=5, restarts=1)"}


@pytest.mark.parametrize("name", ["", "r.md", "r.tex"])
def test_text_markdown_and_latex_show_both_in_their_columns(reported, name):
    text = reported[name]
    assert "RandomSearch" in text and "Frobenius" in text
    if name != "r.tex":
        rows = [line for line in text.splitlines() if "Frobenius" in line]
        assert sum(re.search(r"0\.\d{3} \[0\.\d+, 0\.\d+\]", row) is not None for row in rows) == 2, "with its ACR"
        assert "RandomSearch" in text[text.index("Do the attacks work?") :]


def test_differences_have_an_acr_where_the_bound_measures_a_radius(reported):
    frame = pd.read_csv(StringIO(reported["r-comparisons.csv"])).set_index("eval")
    assert frame["acr_difference"].notna().to_dict() == {
        "RandomSearch": False,
        "PGD(steps=5, restarts=1)": False,
        "Frobenius": True,
    }


def test_the_plot_of_accuracy_against_time_is_of_the_first_at_eps(reported):
    assert "r-tradeoff.svg" in reported and "slowdown: only one method was timed" in reported[""]
    assert "RandomSearch" in reported[""] and "\n  without" not in reported[""]


def test_the_loss_is_the_formula_of_the_paper(added):
    method = plugins.find("crt.methods", "LabelSmoothing")(threat=Threat(), smoothing=0.2)
    draw = torch.Generator().manual_seed(0)
    logits, y = torch.randn(6, 10, generator=draw, dtype=torch.float64), torch.arange(6)
    loss = method.loss(lambda _: logits, torch.zeros(6, 1), y, Step(0.0, y))
    target = torch.full((6, 10), 0.2 / 10, dtype=torch.float64)
    target[range(6), y] += 0.8
    assert float(loss) == pytest.approx(float(-(target * logits.log_softmax(1)).sum(1).mean()), abs=1e-12)


@pytest.mark.parametrize("name", sorted(plugins.plugins("crt.evals")))
def test_every_evaluation_declares_its_contract(name):
    kind = plugins.find("crt.evals", name)
    assert issubclass(kind, Evaluation)
    assert kind.kind in ("clean", "noisy", "corrupted", "attack", "bound", "smoothing")
    assert (kind.judge is not Evaluation.judge) != (kind.judge_many is not Evaluation.judge_many)


def test_an_evaluation_that_declares_no_kind_cannot_be_made():
    class Nameless(Evaluation):
        forwards = 1

    with pytest.raises(TypeError, match="kind"):
        Nameless(threat=Threat())
