"""Claims: each printed figure stands once beside what was measured, with the verdict that the stated rule gives."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_reports import epoch, start

from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.published import Figure
from bench.records import End, Verdict, append
from bench.results.claims import judge, verdict
from bench.results.loading import load
from bench.results.statistics import Interval
from crt.data import DATASETS
from reports.render import text
from reports.render.latex import latex
from reports.render.table_spec import FORMATS, Column, TableSpec, decimals
from reports.tables.claims import claims, claims_table, transfer_table

FOLDER = Path(__file__).parents[1] / "manifests"
NAN = math.nan


# The rule: 63.1 stands for 63.05 to 63.15, and 455.55 ± 1.17 for 454.375 to 456.725.
@pytest.mark.parametrize(
    ("printed", "measured", "expected"),
    [
        ("63.1", (63.1, 62.0, 64.0), "within"),
        ("63.1", (60.0, 55.0, 63.05), "within"),
        ("63.1", (60.0, 55.0, 63.0499), "below"),
        ("63.1", (65.0, 63.15, 66.0), "within"),
        ("63.1", (65.0, 63.1501, 66.0), "above"),
        ("63.10", (65.0, 63.15, 66.0), "above"),
        ("455.55 ± 1.17", (458.0, 456.72, 459.0), "within"),
        ("455.55 ± 1.17", (458.0, 456.73, 459.0), "above"),
        ("455.55 ± 1.17", (450.0, 449.0, 454.37), "below"),
        ("58", (58.4, NAN, NAN), "within"),
        ("58", (58.6, NAN, NAN), "above"),
        ("58", (57.4, NAN, NAN), "below"),
        ("58", (40.0, 0.0, math.inf), "within"),
    ],
)
def test_the_verdict_tells_if_print_and_interval_have_a_value_in_common(printed, measured, expected):
    assert verdict(Figure(printed), Interval(*measured)) == expected


def test_the_verdict_is_that_of_a_search_for_a_common_value():
    """Against the definition: some value of a fine grid lies in both, or all of the interval lies on one side."""
    random = np.random.default_rng(0)
    for _ in range(300):
        figure = Figure(f"{random.normal():.{random.integers(0, 4)}f} ± {random.uniform(0, 0.3):.2f}")
        mean, half = random.normal(), random.exponential(0.3)
        grid = np.linspace(mean - half, mean + half, 2001)
        inside = (figure.low <= grid) & (grid <= figure.high)
        expected = "within" if inside.any() else "above" if (grid > figure.high).all() else "below"
        narrow = figure.high - figure.low < grid[1] - grid[0]
        assert narrow or verdict(figure, Interval(mean, grid[0], grid[-1])) == expected


HEAD = """
published: {device: V100}
dataset: digits
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 2, batch_size: 64, lr: 0.1}
evals: [Smoothing]
"""
CELLS = HEAD + "cells: [{method: Gaussian, paper: {acr: 0.300, certified: {0: 50.0, 0.25: 40.0}, s_per_epoch: 2.00}}]"


def read(tmp_path: Path, content: str, *overrides: str, quick: bool = False) -> Manifest:
    (tmp_path / "m.yaml").write_text(content, encoding="utf-8")
    return read_manifest(tmp_path / "m.yaml", quick, overrides=list(overrides))


def train(runs: Path, cell: Cell, epochs: int | None = None, **machine) -> None:
    append(runs / cell.id / "train.jsonl", start(**machine))
    for number in range(cell.recipe.epochs if epochs is None else epochs):
        seconds = 2.0 + 0.01 * (number % 3)
        append(runs / cell.id / "train.jsonl", epoch(cell.id, number, seconds, DATASETS[cell.dataset].train_images))
    append(runs / cell.id / "train.jsonl", End(time=1.0))


def evaluate(runs: Path, cell: Cell, every: int = 1) -> None:
    """Half of the images right with radius 0.6, at random."""
    file = runs / cell.id / "judge-made-0of1.jsonl"
    lines = []
    for spec in cell.evals:
        for index in list(spec.indices(DATASETS[cell.dataset].test_images))[::every]:
            right = index // spec.every % 2 == 0
            shape = dict(eval=spec.id, index=index, label=0, prediction=0 if right else 1, seconds=0.0)
            lines.append(Verdict(radius=0.6 if right else 0.0, **shape).model_dump_json(by_alias=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def judged(manifest: Manifest, runs: Path, original: Manifest | None = None) -> dict[str, tuple[str, str | None]]:
    """Verdict and differing fields by metric and radius."""
    frame = claims(manifest, load(manifest, [runs]), original or manifest)
    keys = [m if pd.isna(r) else f"{m} {r:g}" for m, r in zip(frame["metric"], frame["radius"], strict=True)]
    return dict(zip(keys, zip(frame["verdict"], fields(frame), strict=True), strict=True))


def fields(frame: pd.DataFrame) -> list[str | None]:
    return [None if pd.isna(names) else names for names in frame["fields"]]


def test_nothing_is_measured_without_records(tmp_path):
    frame = claims(manifest := read(tmp_path, CELLS), load(manifest, [tmp_path / "runs"]), manifest)
    assert frame["verdict"].tolist() == ["not measured"] * 4 and frame["measured"].isna().all()
    assert frame["reason"].tolist() == ["no timed epoch", *["not evaluated yet"] * 3]


def test_figures_measured_in_the_published_setting_are_within_above_or_below(tmp_path):
    manifest = read(tmp_path, CELLS)
    train(tmp_path / "runs", manifest.cells[0], device="Tesla V100-SXM2-16GB")
    evaluate(tmp_path / "runs", manifest.cells[0])
    found = judged(manifest, tmp_path / "runs")
    assert found["acr"] == ("within", None) and found["certified 0"] == ("within", None)
    # 50 % of 360 images have the interval 44.9 to 55.1 %.
    assert found["certified 0.25"] == ("above", None)
    assert read(tmp_path, CELLS.replace("40.0", "60.0")).cells[0].id == manifest.cells[0].id
    assert judged(read(tmp_path, CELLS.replace("40.0", "60.0")), tmp_path / "runs")["certified 0.25"][0] == "below"


@pytest.mark.parametrize(
    ("device", "expected"),
    [("NVIDIA H200", "device"), ("cpu", "device"), ("V1000", "device"), ("Tesla V100-SXM2-16GB", None)],
)
def test_seconds_hold_on_the_published_device_alone_and_accuracies_on_any(tmp_path, device, expected):
    manifest = read(tmp_path, CELLS)
    train(tmp_path / "runs", manifest.cells[0], device=device)
    evaluate(tmp_path / "runs", manifest.cells[0])
    found = judged(manifest, tmp_path / "runs")
    assert found["s_per_epoch"][1] == expected and found["acr"] == ("within", None)
    unnamed = read(tmp_path, CELLS.replace("published: {device: V100}", ""))
    assert judged(unnamed, tmp_path / "runs")["s_per_epoch"] == ("different setting", "device")


def test_fewer_images_and_epochs_are_another_setting(tmp_path):
    manifest = read(tmp_path, CELLS)
    train(tmp_path / "runs", manifest.cells[0], epochs=1)
    evaluate(tmp_path / "runs", manifest.cells[0], every=2)
    frame = claims(manifest, load(manifest, [tmp_path / "runs"]), manifest).set_index("metric")
    assert frame.loc["acr", ["verdict", "fields", "n"]].tolist() == ["different setting", "images, epochs", 180]
    assert frame.loc["acr", "reason"] == "images: 180 of 360 evaluated; epochs: 1 of 2 trained"


def test_quick_and_changed_settings_are_named(tmp_path):
    quick = read(tmp_path, CELLS, quick=True)
    train(tmp_path / "runs", quick.cells[0])
    evaluate(tmp_path / "runs", quick.cells[0])
    assert set(judged(quick, tmp_path / "runs").values()) == {("different setting", "--quick")}
    original = read(tmp_path, CELLS)
    for change, named in (
        ("recipe.precision=bf16", "recipe.precision"),
        ("threat.sigma=0.5", "threat.sigma"),
        ("arch=cnn4c3f", "arch"),
        ("evals.n=500", "evals"),
        ("seed=3", None),
    ):
        manifest = read(tmp_path, CELLS, change)
        train(tmp_path / "runs", manifest.cells[0])
        evaluate(tmp_path / "runs", manifest.cells[0])
        assert judged(manifest, tmp_path / "runs", original)["acr"][1] == named
    both = read(tmp_path, CELLS, "seed=[0, 1]", "cells.0.paper={acr: [0.300, 0.310]}")
    for cell in both.cells:
        train(tmp_path / "runs", cell)
        evaluate(tmp_path / "runs", cell)
    assert judged(both, tmp_path / "runs", original)["acr"] == ("different setting", "--set")


RATIOS = """
baseline: Standard
published:
  device: V100
  comparisons:
    - {slower: SmoothMix, faster: Gaussian, epoch_ratio: 4.00, training_ratio: 2.00, slower_hours: 1, hours_saved: 50.0}
timing: {runs: 3, rounds: 2}
dataset: digits
threat: {sigma: 0.25}
arch: [cnn2c2f, cnn4c3f]
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
cells:
  - {method: Standard}
  - {method: Gaussian}
  - method: SmoothMix
    recipe: {epochs: 2, batch_size: 64, lr: 0.1}
    paper: {slowdown: [8.00, null], total: [4.00, 4.00], memory_gb: [2.0, 2.1]}
"""


def timed(tmp_path: Path, content: str = RATIOS, **machine) -> tuple[Manifest, Path]:
    """Records of a study: Standard and Gaussian take 1 s, SmoothMix 4 s on the first network and 8 s on the other."""
    manifest, random = read(tmp_path, content), np.random.default_rng(0)
    for study in manifest.studies:
        for run in range(manifest.timing.runs):
            file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
            append(file, start(**machine))
            for arm in study.arms:
                slow = {"SmoothMix": 4.0 if arm.arch == "cnn2c2f" else 8.0}.get(arm.method.name, 1.0)
                for turn in range(manifest.timing.rounds + 1):
                    seconds = slow * math.exp(random.normal(0, 0.01))
                    append(file, epoch(arm.id, turn, seconds, 1437, turn).model_copy(update={"memory": 2000.0}))
            append(file, End(time=1.0))
    return manifest, tmp_path / "runs"


def test_ratios_are_compared_on_any_gpu_and_memory_on_the_published_one(tmp_path):
    found = {}
    for device in ("NVIDIA H200", "Tesla V100"):
        (tmp_path / device).mkdir()
        manifest, runs = timed(tmp_path / device, device=device)
        frame = claims(manifest, load(manifest, [runs]), manifest)
        found[device] = list(zip(frame["metric"], frame["verdict"], fields(frame), strict=True))
    ratios = [("slowdown", "below", None), ("total", "below", None), ("total", "within", None)]
    ratios += [("epoch_ratio", "above", None), ("training_ratio", "above", None), ("hours_saved", "above", None)]
    for each in found.values():
        assert [row for row in each if row in ratios] == ratios
    assert ("memory_gb", "different setting", "device") in found["NVIDIA H200"]
    assert ("memory_gb", "within", None) in found["Tesla V100"] and ("memory_gb", "below", None) in found["Tesla V100"]


def test_ratios_of_a_cpu_are_another_setting(tmp_path):
    manifest, runs = timed(tmp_path, device="cpu")
    frame = claims(manifest, load(manifest, [runs]), manifest).set_index("metric")
    for metric in ("slowdown", "total", "epoch_ratio", "hours_saved"):
        assert set(frame.loc[[metric], "fields"]) == {"device type"}


def test_means_over_pairs_are_those_of_the_numbers_put_in(tmp_path):
    manifest, runs = timed(tmp_path, device="Tesla V100")
    frame = claims(manifest, load(manifest, [runs]), manifest).set_index("metric")["measured"]
    assert frame["epoch_ratio"] == pytest.approx((4 + 8) / 2, rel=0.02)
    assert frame["training_ratio"] == pytest.approx((4 + 8) / 2 * 2 / 4, rel=0.02)
    assert frame["slower_hours"] == pytest.approx((4 + 8) * 2 / 3600, rel=0.02)
    assert frame["hours_saved"] == pytest.approx(100 * (1 - 2 * 4 / (12 * 2)), rel=0.03)


def test_no_interval_is_cut_where_hours_are_lost_instead_of_saved(tmp_path):
    content = RATIOS.replace("{slower: SmoothMix, faster: Gaussian", "{slower: Gaussian, faster: SmoothMix")
    manifest, runs = timed(tmp_path, content, device="Tesla V100")
    saved = claims(manifest, load(manifest, [runs]), manifest).set_index("metric").loc["hours_saved"]
    assert saved["measured"] == pytest.approx(100 * (1 - 12 * 2 / (2 * 4)), rel=0.03)
    assert saved["measured_low"] < saved["measured"] < saved["measured_high"] < 0


def made_up(manifest: Manifest, runs: Path) -> None:
    """Records of everything that a manifest trains, times and evaluates, few images of each evaluation."""
    for study in manifest.studies if manifest.timing else ():
        file = runs / study.id / "run0" / "time.jsonl"
        append(file, start(device="NVIDIA TITAN V", flops={arm.id: 1.0 for arm in study.arms}))
        for arm in study.arms:
            for turn in range(3):
                images = DATASETS[arm.dataset].train_images
                append(file, epoch(arm.id, turn, 5.0 + turn, images, turn).model_copy(update={"memory": 3000.0}))
    for network in {one.id: one for cell in manifest.trained for one in (cell, *cell.lineage)}.values():
        train(runs, network, epochs=2)
    for cell in manifest.cells:
        if cell.evals:
            few = tuple(spec.model_copy(update={"images": 4}) for spec in cell.evals)
            evaluate(runs, cell.model_copy(update={"evals": few}))


COUNTS = {
    "duet/table1.yaml": 9,
    "duet/table2.yaml": 13,
    "duet/table3.yaml": 10,
    "limits.yaml": 2,
    "rrm/figure3.yaml": 18,
    "rrm/figure5.yaml": 10,
    "rrm/table1.yaml": 26,
    "rrm/table10.yaml": 13,
    "rrm/table2.yaml": 18,
    "rrm/table3.yaml": 18,
    "rrm/table8.yaml": 26,
    "rrm/table9.yaml": 18,
    "table1.yaml": 3,
    "table10.yaml": 50,
    "table11.yaml": 20,
    "table12.yaml": 45,
    "table13.yaml": 20,
    "table14.yaml": 3,
    "table15.yaml": 30,
    "table2.yaml": 50,
    "table3.yaml": 35,
    "table4.yaml": 19,
    "table5.yaml": 12,
    "table6.yaml": 9,
    "table7.yaml": 9,
    "table8.yaml": 63,
    "table9.yaml": 77,
}
"""Published figures of each manifest that has any."""


def written(manifest: Manifest) -> list[tuple]:
    """Every figure in a manifest, read off its fields one by one."""
    found = []
    for cell in manifest.cells:
        for key, value in cell.paper.model_dump(exclude_none=True).items():
            radii = value.items() if key == "certified" else [(None, value)]
            found += [(cell.id, key, radius, float(figure)) for radius, figure in radii]
    for each in manifest.published.comparisons:
        named = each.model_dump(exclude_none=True, exclude={"slower", "faster", "arch"})
        found += [(None, key, None, float(figure)) for key, figure in named.items()]
    return found


def test_these_are_all_manifests_with_figures():
    paths = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*.yaml")}
    assert {name for name, path in paths.items() if written(read_manifest(path, networks=False))} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_every_figure_of_a_manifest_is_claimed_once_and_measured_where_there_are_records(tmp_path, name):
    manifest = read_manifest(FOLDER / name, networks=False)
    made_up(manifest, tmp_path)
    frame = claims(manifest, load(manifest, [tmp_path]), manifest)
    nothing = frame["id"].isna(), frame["radius"].isna()
    ids, radii = (
        frame[key].astype(object).where(~missing, None) for key, missing in zip(("id", "radius"), nothing, strict=True)
    )
    claimed = list(zip(ids, frame["metric"], radii, frame["published"], strict=True))
    assert sorted(claimed, key=str) == sorted(written(manifest), key=str)
    assert len(frame) == COUNTS[name]
    missing = frame[frame["verdict"] == "not measured"]
    # Similarity and Lipschitz constants have no records: a command computes them from the weights.
    assert set(missing["metric"]) <= {"similarity", "lipschitz"}, missing[["metric", "reason"]]
    assert len(missing) == (8 if name == "duet/table1.yaml" else 0)


def test_a_teacher_stands_beside_its_student(tmp_path):
    manifest = read_manifest(FOLDER / "table6.yaml", networks=False)
    made_up(manifest, tmp_path)
    frame = claims(manifest, load(manifest, [tmp_path]), manifest)
    (spec,) = transfer_table(frame)
    pairs = spec.rows[["pair", "chain", "teacher_published", "published"]].to_numpy().tolist()
    assert [re.match(r"resnet20 (\w+)", pair[0][0])[1] for pair in pairs] == ["SmoothAdv", "MACER", "SmoothMix"]
    assert [pair[1:] for pair in pairs] == [[1, 0.531, 0.519], [1, 0.507, 0.528], [1, 0.522, 0.540]]
    assert spec.rows["teacher_measured"].notna().all()


def test_chains_have_their_lengths():
    manifest = read_manifest(FOLDER / "table3.yaml", networks=False)
    frame = claims(manifest, load(manifest, [Path("nowhere")]), manifest)
    lengths = frame[frame["metric"] == "acr"].set_index(["arch", "method"])["chain"]
    assert lengths.loc[:, "SmoothMix"].tolist() == [0, 0, 0, 0]
    (spec,) = transfer_table(frame)
    assert spec.rows["chain"].tolist() == [1, 2, 3] and spec.rows["teacher_published"].tolist() == [0.55, 0.558, 0.57]


def test_the_table_in_text_and_latex(tmp_path):
    manifest, runs = timed(tmp_path, RATIOS.replace("[8.00, null]", "[8.00 ± 0.50, null]"), device="NVIDIA H200")
    specs = list(claims_table(claims(manifest, load(manifest, [runs]), manifest)))
    page = text.markdown("T", [], [], specs)
    assert "## Claims: as published and as measured" in page
    assert re.search(r"cnn2c2f \| SmoothMix \| slowdown of an epoch \| 8.00 ± 0.50 \| 4\.\d+ \[.*\] \| below", page)
    assert re.search(r"peak memory \(GB\) \| 2.0 \| 1.953 \| different setting: device", page)
    paper = latex("T", [], specs)
    assert r"8.00 \ensuremath{\pm} 0.50" in paper and r"\caption{T: claims, as published and as measured." in paper


def test_a_manifest_without_figures_has_no_claims(tmp_path):
    manifest = read(tmp_path, HEAD + "cells: [{method: Gaussian}]")
    assert list(judge(manifest, load(manifest, [tmp_path]), manifest)) == []
    assert claims(manifest, load(manifest, [tmp_path]), manifest).empty


@pytest.mark.parametrize(
    ("half", "expected"),
    [(0.96, 1), (0.29, 2), (0.3, 1), (2.1, 1), (3.0, 0), (12.0, 0), (45.0, 0), (0.0061, 3), (0.0021, 4), (1e-9, 4)],
)
def test_estimates_have_as_many_decimals_as_their_interval_deserves(half, expected):
    assert decimals(50 - half, 50 + half) == decimals(-50 - half, -50 + half) == expected


def test_half_an_interval_keeps_one_or_two_significant_digits():
    for half in np.random.default_rng(0).uniform(-4, 0.9, 300):
        shown = f"{10**half:.{decimals(-(10**half), 10**half)}f}".replace(".", "").lstrip("0")
        assert 1 <= len(shown) <= 2, (10**half, shown)


def test_a_column_can_have_digits_by_interval():
    assert {"by interval", "percent by interval"} <= set(FORMATS)
    rows = pd.DataFrame(
        {"share": [0.51234, 0.5, 0.25], "share_low": [0.5025, 0.3, NAN], "share_high": [0.522, 0.7, NAN]}
    )
    column = Column("share", "share", "percent by interval")
    assert text.cells(rows, column) == ["51.2 [50.2, 52.2]", "50 [30, 70]", "25.0"]
    page = latex("T", [], [TableSpec("t", "c.", [column], rows)])
    assert "51.2 \\\\\n{\\scriptsize[50.2, 52.2]}" in page and "50 \\\\\n{\\scriptsize[30, 70]}" in page
