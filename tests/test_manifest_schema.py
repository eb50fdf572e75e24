"""The JSON schema of manifests: every manifest is valid by it, it is up to date, and it knows what plug-ins declare."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from bench.manifest.json_schema import schema_text
from bench.manifest.strict_yaml import load_yaml, parse_yaml
from bench.submit import app
from crt.plugins import plugins

ROOT = Path(__file__).parents[1]
FILE = ROOT / "manifests" / "manifest.schema.json"
MANIFESTS = sorted((ROOT / "manifests").rglob("*.yaml"))
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
VALIDATOR = Draft7Validator(SCHEMA)
RECIPE = "epochs: 2, batch_size: 8"
HEAD = """
dataset: cifar10
threat: {sigma: 0.25}
arch: resnet20
"""


def as_json(content: Any) -> Any:
    """The content with words for keys, as JSON has them."""
    return json.loads(json.dumps(content))


def test_the_schema_is_valid_itself():
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_manifest_is_valid_and_points_editors_to_the_schema(path):
    VALIDATOR.validate(as_json(load_yaml(path)))
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    (pointer,) = [line for line in comments if "$schema" in line]
    name = pointer.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / name).resolve() == FILE


def test_the_committed_schema_is_what_the_command_prints():
    # Here from plug-ins that are imported in full, in a process of its own from plug-ins in outline.
    committed = FILE.read_text(encoding="utf-8")
    assert schema_text() == committed, "run: python -m bench.submit --schema > manifests/manifest.schema.json"
    assert CliRunner().invoke(app, ["--schema"]).stdout == committed
    done = subprocess.run([sys.executable, "-m", "bench.submit", "--schema"], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode() == committed


ACCEPTED = {
    "numbers as words": f"cells: [{{method: Standard, threat: {{eps: 8/255}}, recipe: {{{RECIPE}, lr: 1e-4}}}}]",
    "a name without arguments": "cells: [{method: {SmoothMix: }, evals: [{Clean: }, Smoothing]}]",
    "axes": "cells: [{method: [Standard, {SmoothAdv: {T: 2}}], seed: [0, 1], arch: [vgg11, dla], ranks: [1, 2]}]",
    "no teacher": "cells: [{method: Standard, teacher: null}]",
    "a teacher in a file": "cells: [{method: CRT, teacher: {weights: a.pt, arch: vgg11, sha256: a1, normalize: true}}]",
    "a teacher of a teacher": f"cells: [{{method: CRT, teacher: {{method: CRT, arch: dla, recipe: {{{RECIPE}, lr: 1}},"
    " teacher: {cell: a}}}]",
    "figures": "cells: [{method: [Standard, Gaussian], paper: {acr: [0.5, null], certified: [{0: 1, 0.25: 2}, null]}}]",
    "off as YAML 1.1 reads it": f"recipe: {{{RECIPE}, lr: 1, compile: off}}\ncells: [{{method: Standard}}]",
    "off as YAML 1.2 reads it": f"recipe: {{{RECIPE}, lr: 1, compile: 'off'}}\ncells: [{{method: Standard}}]",
    "an evaluation's images": "cells: [{method: Standard, evals: [Clean: {every: 20, images: 500}]}]",
    "a bare loop": "baseline: bare loop\ntiming: {certify: {images: 1, n: 2}}\ncells: [{method: Standard, loop: bare}]",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_a_manifest_may_hold_is_valid(name):
    VALIDATOR.validate(as_json(parse_yaml(HEAD + ACCEPTED[name], name)))


REFUSED = {
    "a key at the top": "cels: []\ncells: [{method: Standard}]",
    "no cells": "",
    "an empty list of cells": "cells: []",
    "a key of a cell": "cells: [{method: Standard, epoch: 3}]",
    "a key of a recipe": "cells: [{method: Standard, recipe: {epochs: 1, batch_size: 1, lr: 1, epoch: 3}}]",
    "a recipe without a batch size": "cells: [{method: Standard, recipe: {epochs: 1, lr: 1}}]",
    "a method": "cells: [{method: Standrad}]",
    "a method in a list": "cells: [{method: [Standard, Standrad]}]",
    "an argument": "cells: [{method: {SmoothMix: {temprature: 1}}}]",
    "an argument's type": "cells: [{method: {SmoothMix: {T: many}}}]",
    "an argument's range": "cells: [{method: {SmoothMix: {T: 0}}}]",
    "two methods in one": "cells: [{method: {SmoothMix: {}, Gaussian: {}}}]",
    "an evaluation": "cells: [{method: Standard, evals: [Smooth]}]",
    "no list of evaluations": "cells: [{method: Standard, evals: Clean}]",
    "every": "cells: [{method: Standard, evals: [Clean: {every: 0}]}]",
    "an architecture": "cells: [{method: Standard, arch: cnn_smal}]",
    "a dataset": "cells: [{method: Standard, dataset: cifar}]",
    "a loader": "cells: [{method: Standard, loader: dali}]",
    "a negative threat": "cells: [{method: Standard, threat: {sigma: -1}}]",
    "a boolean for a number": "cells: [{method: Standard, threat: {sigma: true}}]",
    "a time of day for a seed": "cells: [{method: Standard, seed: 10:00:00}]",
    "an empty axis": "cells: [{method: []}]",
    "a teacher's key": "cells: [{method: CRT, teacher: {cell: a, seed: 1}}]",
    "a monitor without evaluations": "cells: [{method: Standard, monitor: {every: 1}}]",
    "a timing study of no runs": "timing: {runs: 0}\ncells: [{method: Standard}]",
    "a baseline": "baseline: Standrad\ncells: [{method: Standard}]",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_manifest_may_not_hold_is_not_valid(name):
    assert not VALIDATOR.is_valid(as_json(parse_yaml(HEAD + REFUSED[name], name)))


@pytest.mark.parametrize(
    ("package", "definition", "of_all"),
    [("crt.methods", "Method", {}), ("crt.evals", "Evaluation", {"every": 1, "images": None})],
)
def test_every_plugin_is_offered_with_its_arguments_their_defaults_and_what_they_are(package, definition, of_all):
    names, mapping = SCHEMA["$defs"][definition]["anyOf"]
    assert set(names["enum"]) == set(mapping["properties"]) == set(plugins(package))
    for name, kind in plugins(package).items():
        arguments = {field.name: field.default for field in dataclasses.fields(kind) if field.init} | of_all
        offered = mapping["properties"][name]["anyOf"][0]["properties"]
        assert {key: argument["default"] for key, argument in offered.items()} == as_json(
            {key: value for key, value in arguments.items() if key not in ("threat", "teacher")}
        )


def test_keys_and_arguments_are_described():
    methods = SCHEMA["$defs"]["Method"]["anyOf"][1]["properties"]
    assert methods["SmoothAdv"]["description"].startswith("Cross-entropy of noisy copies")
    assert methods["SmoothAdv"]["anyOf"][0]["properties"]["T"]["description"] == "Steps of the attack."
    recipe = SCHEMA["$defs"]["RecipeBlock"]["properties"]
    assert recipe["precision"]["enum"] == ["fp32", "tf32", "bf16", "fp16"]
    assert recipe["cuda_graph"]["description"].startswith("Record whole steps")
