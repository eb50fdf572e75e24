"""Studies of a method beside its restatement in plain PyTorch."""

from bench.cell import Cell
from bench.manifest.labels import PLAIN_SETTINGS
from bench.manifest.manifest import Manifest, Study
from bench.plain_eager import restates
from bench.published import Paper
from crt.plugins import declaration


def restated_studies(manifest: Manifest) -> list[Study]:
    """A study for each cell of a timing study: the cell, and its restatement with plain arithmetic.

    Cells without a restatement, by method or recipe, and cells on several ranks, have none.
    """
    timing = manifest.study_timing.model_copy(
        update={"together": "method", "certify": None, "until": None, "at_most": None}
    )
    studies = []
    for cell in manifest.first_seeds:
        restated = cell.recipe.restatable and restates(declaration("crt.methods", cell.method.name))
        if cell.loop == "train" and cell.ranks == 1 and restated:
            arm = cell.model_copy(update={"evals": (), "monitor": None, "select": "last", "paper": Paper()})
            arms, references = (arm, _restated(arm)), {arm.id: _restated(arm).id}
            studies.append(Study(name=manifest.name, timing=timing, arms=arms, references=references))
    return studies


def _restated(cell: Cell) -> Cell:
    return cell.model_copy(update={"loop": "bare", "recipe": cell.recipe.model_copy(update=PLAIN_SETTINGS)})
