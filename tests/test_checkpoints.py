"""Checkpoints as people have them: holders, prefixes, precisions, what lies beside the weights, and other formats."""

import argparse
import collections
import datetime
import enum
import hashlib
import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from checkpoints import MEAN, STD, constants, foreign, front, load, network, same
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

from bench.cell import Weights
from bench.certify import app as certify
from bench.manifest import read_manifest
from bench.submit import app as submit
from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights
from crt.plugins import find

SOURCE, OTHER = network(0), network(2)
WEIGHTS, OTHERS = foreign(SOURCE), foreign(OTHER)
VECTOR = torch.ones(3)


def write(held, folder, **options) -> pathlib.Path:
    torch.save(held, folder / "checkpoint.pth", **options)
    return folder / "checkpoint.pth"


HOLDERS = {
    "bare": (WEIGHTS, []),
    "state_dict": ({"state_dict": WEIGHTS, "epoch": 3}, []),
    "model_state_dict": ({"model_state_dict": WEIGHTS, "loss": 0.1}, []),
    "model": ({"model": WEIGHTS, "best_acc": 93.1}, []),
    "net": ({"net": WEIGHTS, "acc": 93.1}, []),
    "network": ({"network": WEIGHTS}, []),
    "weights": ({"weights": WEIGHTS, "meta": {"lr": 0.1}}, []),
    "params": ({"params": WEIGHTS}, []),
    "a holder in a holder": ({"state": {"model": WEIGHTS}, "rng": {"cpu": torch.get_rng_state()}}, []),
    "a list": ([WEIGHTS, {"lr": 0.1}], []),
    "ema beside": ({"model": WEIGHTS, "ema": OTHERS}, ["uses model, and not ema (key chooses)"]),
    "state_dict_ema beside": (
        {"state_dict": WEIGHTS, "state_dict_ema": OTHERS},
        ["uses state_dict, and not state_dict_ema (key chooses)"],
    ),
    "model_ema and swa beside": (
        {"swa_state_dict": OTHERS, "model_ema": OTHERS, "model": WEIGHTS},
        ["uses model, and not swa_state_dict, model_ema (key chooses)"],
    ),
    "ema alone": ({"ema_state_dict": WEIGHTS}, ["uses ema_state_dict, an average of weights, for there is no other"]),
    "an ema in its holder": (
        {"model": WEIGHTS, "ema": {"module": OTHERS, "decay": 0.99}},
        ["uses model, and not ema.module (key chooses)"],
    ),
    "an ema among the names": (
        {"state_dict": front("model.", WEIGHTS) | front("ema_model.", OTHERS)},
        ["uses state_dict.model, and not state_dict.ema_model (key chooses)"],
    ),
    "constants beside": (
        {"state_dict": WEIGHTS, "normalizer": {"mean": VECTOR}, "std": VECTOR},
        ["uses state_dict, and not normalizer, std (key chooses)"],
    ),
    "an optimizer": ({"net": WEIGHTS, "optimizer": {"state": {"a": dict(WEIGHTS)}, "param_groups": []}}, []),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_state_dicts_are_found_wherever_a_file_holds_them(name, tmp_path):
    held, remarks = HOLDERS[name]
    model, said = load(write(held, tmp_path))
    assert same(model, SOURCE) and [one.split(": ", 1)[1] for one in said] == remarks


KEYS = {
    "ema": {"model": OTHERS, "ema": WEIGHTS},
    "state_dict_ema": {"state_dict": OTHERS, "state_dict_ema": front("module.", WEIGHTS)},
    "unaveraged_model_state_dict": {"model_state_dict": OTHERS, "unaveraged_model_state_dict": WEIGHTS},
    "net": {"net": WEIGHTS, "best_net": OTHERS, "epoch": 1},
    "ema.module": {"model": OTHERS, "ema": {"module": WEIGHTS}},
    "state_dict.ema_model": {"state_dict": front("model.", OTHERS) | front("ema_model.", WEIGHTS)},
    "teacher": front("student.", OTHERS) | front("teacher.", WEIGHTS),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_chooses_and_is_not_remarked_on(key, tmp_path):
    model, said = load(write(KEYS[key], tmp_path), key=key)
    assert same(model, SOURCE) and not said


@pytest.mark.parametrize(
    ("held", "key", "message"),
    [
        ({"model": WEIGHTS, "ema": OTHERS}, "ma", r"no state dict under key 'ma' \(allowed: model, ema\)"),
        (WEIGHTS, "model", r"no state dict under key 'model' \(allowed: no key\)"),
        ({"net": WEIGHTS, "epoch": 1}, "epoch", r"under key 'epoch' \(allowed: net\)"),
        (
            {"net": WEIGHTS, "model": OTHERS},
            None,
            r"2 state dicts \(net, model\), and one is needed \(choose it by key",
        ),
        ({"best_state": WEIGHTS, "last_state": OTHERS}, None, "2 state dicts"),
        ({"encoder": WEIGHTS, "classifier": {"weight": torch.ones(2, 2)}}, None, "2 state dicts"),
        ({"ema": WEIGHTS, "swa": OTHERS}, None, r"2 state dicts \(ema, swa\)"),
        (
            {"model_state_dict": WEIGHTS, "unaveraged_model_state_dict": OTHERS},
            None,
            r"\(model_state_dict, unaveraged_model_state_dict\)",
        ),
        (front("student.", WEIGHTS) | front("teacher.", OTHERS), None, r"2 state dicts \(student, teacher\)"),
    ],
)
def test_what_may_be_meant_is_asked_for(held, key, message, tmp_path):
    path = write(held, tmp_path)
    with pytest.raises(ValueError, match=message) as refused:
        load(path, key=key)
    assert str(path) in str(refused.value)


def averaged() -> dict:
    return AveragedModel(Named()).state_dict()


class Named(nn.Module):
    """The network under foreign names."""

    def __init__(self):
        super().__init__()
        body = network(0).body
        self.conv1, self.bn1, self.conv2, self.bn2, self.fc = body[0], body[1], body[3], body[4], network(0).head


PREFIXES = {
    "none": (WEIGHTS, True),
    "module.": (front("module.", WEIGHTS), True),
    "model.": (front("model.", WEIGHTS), True),
    "_orig_mod.": (front("_orig_mod.", WEIGHTS), True),
    "net.": (front("net.", WEIGHTS), True),
    "network.": (front("network.", WEIGHTS), True),
    "ema_model.": (front("ema_model.", WEIGHTS), True),
    "model._orig_mod.module.": (front("model._orig_mod.module.", WEIGHTS), True),
    "module._orig_mod.": (front("module._orig_mod.", WEIGHTS), True),
    "_orig_mod.module.model.net.": (front("_orig_mod.module.model.net.", WEIGHTS), True),
    "classifier_network.": (front("classifier_network.", WEIGHTS), True),
    "AveragedModel": (averaged(), True),
    "module.1.": (front("module.1.", WEIGHTS), None),
    "model.1.module.": (front("model.1.module.", WEIGHTS), None),
    "constants in front": (constants("normalize.mean", "normalize.std") | front("model.", WEIGHTS), None),
    "constants inside": (front("module._orig_mod.", constants("0.mean", "0.std") | front("1.", WEIGHTS)), None),
    "constants at the top": (constants("mean", "std") | front("model.", WEIGHTS), None),
    "mu and sigma among the layers": (front("module.", constants("mu", "sigma") | WEIGHTS), None),
    "robustness": (
        front(
            "module.",
            constants("normalizer.new_mean", "normalizer.new_std")
            | front("model.", WEIGHTS)
            | constants("attacker.normalize.new_mean", "attacker.normalize.new_std")
            | front("attacker.model.", WEIGHTS),
        ),
        None,
    ),
    "ours, compiled": (front("_orig_mod.", SOURCE.state_dict()), None),
    "ours, in DataParallel": (front("model.module.", SOURCE.state_dict()), None),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes_in_any_nesting(name, tmp_path):
    state, normalize = PREFIXES[name]
    model, _ = load(write({"state_dict": state}, tmp_path), normalize=normalize)
    assert same(model, SOURCE)


@pytest.mark.parametrize(
    "state",
    [
        front("model.", {"normalize.mean": torch.zeros(3)} | front("net.", WEIGHTS)),
        constants("normalizer.new_std", "normalizer.new_mean") | front("model.", WEIGHTS),
        front("module.", {"mean": torch.full((1, 3, 1, 1), 127.5)} | WEIGHTS),
        front("module.0.", constants("std", "mean")) | front("module.1.", WEIGHTS),
        front("_orig_mod.", SOURCE.state_dict() | {"normalize.std": torch.ones(3, 1, 1)}),
    ],
)
def test_other_constants_inside_a_wrapper_are_refused(state, tmp_path):
    with pytest.raises(ValueError, match="pixels were normalized with"):
        load(write(state, tmp_path), normalize=None)


IGNORED = {
    "n_averaged": (averaged(), "n_averaged"),
    "a loss's weight": (front("model.", WEIGHTS) | {"loss.weight": torch.ones(10)}, "loss.weight"),
    "a criterion and a metric": (
        front("model.", WEIGHTS) | {"criterion.weight": torch.ones(10), "val_acc.total": torch.tensor(3)},
        "criterion.weight, val_acc.total",
    ),
    "counts of a profiler": (
        WEIGHTS | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
        "total_ops, conv1.total_params",
    ),
    "an average's clock": (front("ema_model.", WEIGHTS) | {"step": torch.tensor(1), "initted": torch.ones(1)}, "step"),
    "an attack": (
        front("model.", WEIGHTS) | front("attacker.model.", WEIGHTS),
        "attacker.model.conv1.weight, attacker.model.bn1.weight, attacker.model.bn1.bias, …",
    ),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_no_layer_is_ignored_and_said(name, tmp_path):
    state, ignored = IGNORED[name]
    model, (said,) = load(write(state, tmp_path))
    assert same(model, SOURCE) and f"ignores {ignored}" in said and "(not part of the network)" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"input_bn.weight": VECTOR}, "holds input_bn.weight beside its network, model, and they may be layers of it"),
        ({"scale": torch.ones(1)}, "holds scale beside its network"),
        ({"prompt.mean": torch.ones(7)}, "holds prompt.mean beside its network"),
        ({"model.bn3.weight": VECTOR}, "its body has 5 blocks"),
        ({"model.bn1.scale": VECTOR}, "1 unexpected"),
        ({"projector.weight": torch.ones(4, 4)}, "its body has"),
        ({"loss.weight": torch.ones(4, 4)}, "its body has"),
    ],
)
def test_what_may_be_a_layer_is_not_ignored(more, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(write(front("model.", WEIGHTS) | more, tmp_path))


def in_dtype(dtype: torch.dtype, *, counts: bool = False) -> dict:
    return {k: v.to(dtype) if v.is_floating_point() or counts else v for k, v in WEIGHTS.items()}


PRECISIONS = {
    "float16": in_dtype(torch.float16),
    "bfloat16": in_dtype(torch.bfloat16),
    "float64": in_dtype(torch.float64),
    "float16, counts too": in_dtype(torch.float16, counts=True),
    "mixed": in_dtype(torch.bfloat16) | {"fc.weight": WEIGHTS["fc.weight"]},
    "without num_batches_tracked": {k: v for k, v in WEIGHTS.items() if "num_batches" not in k},
    "int32 num_batches_tracked": {k: v.int() if "num_batches" in k else v for k, v in WEIGHTS.items()},
    "parameters": {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in WEIGHTS.items()},
    "views of one storage": dict(
        zip(
            WEIGHTS,
            torch.cat([v.double().flatten() for v in WEIGHTS.values()]).split([v.numel() for v in WEIGHTS.values()]),
            strict=True,
        )
    ),
    "not contiguous": {k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in WEIGHTS.items()},
    "channels last": {
        k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in WEIGHTS.items()
    },
}
PRECISIONS["views of one storage"] = {
    k: v.view(WEIGHTS[k].shape) for k, v in PRECISIONS["views of one storage"].items()
}


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("legacy", [False, True])
def test_precisions_become_float32(name, legacy, tmp_path):
    model, _ = load(write(PRECISIONS[name], tmp_path, _use_new_zipfile_serialization=not legacy))
    found, keys = foreign(model), PRECISIONS[name]
    assert all(torch.equal(found[k], keys[k].float()) for k in keys if "num_batches" not in k)
    assert {v.dtype for v in found.values()} == {torch.float32, torch.int64}
    if all("num_batches" not in k for k in keys):
        assert found["bn1.num_batches_tracked"] == 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_constants_in_the_precision_of_the_file(dtype, tmp_path):
    state = {k: v.to(dtype) for k, v in SOURCE.state_dict().items()}
    model, _ = load(write(state, tmp_path), normalize=None)
    assert model.normalize.mean.flatten().tolist() == torch.tensor(MEAN).tolist()
    assert model.normalize.std.flatten().tolist() == torch.tensor(STD).tolist()


class Mode(enum.Enum):
    """A choice as configurations have it."""

    train = "train"


class Config(dict):
    """A dictionary of another class, as configuration libraries have."""


class Meter:
    """An average that a training script keeps."""

    def __init__(self):
        self.value = 0.5


NEIGHBOURS = {
    "numpy scalars": {"epoch": np.float64(3), "best_acc": np.float32(0.9), "step": np.int64(7)},
    "numpy arrays": {"history": np.arange(6.0).reshape(2, 3), "names": np.array(["a", None], dtype=object)},
    "numpy random state": {"rng": np.random.RandomState(0).get_state(), "generator": np.random.default_rng(0)},
    "namespace": {"args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"))},
    "ordered and default dictionaries": {
        "a": collections.OrderedDict(b=1),
        "log": collections.defaultdict(list, loss=[1.0]),
        "c": collections.Counter("aab"),
    },
    "sizes, types and devices": {"shape": torch.Size([3]), "dtype": torch.float16, "device": torch.device("cuda:1")},
    "times": {"when": datetime.datetime(2020, 1, 1), "took": datetime.timedelta(seconds=3)},
    "paths": {"data": pathlib.Path("/data"), "pure": pathlib.PurePosixPath("a")},
    "sets, slices, bytes and complex": {"s": {1, 2}, "f": frozenset([3]), "r": range(3), "b": b"1", "c": 1j, "e": ...},
    "classes, functions and choices": {"class": Meter, "function": torch.relu, "mode": Mode.train, "loss": nn.ReLU},
    "objects": {"meter": Meter(), "loss": nn.CrossEntropyLoss(torch.ones(10)), Mode.train: 1},
    "optimizer and scheduler": (lambda o: {
        "optimizer": o.state_dict(),
        "scheduler": torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=9).state_dict(),
    })(torch.optim.Adam([nn.Parameter(torch.ones(2, 2))])),
    "random state": {"rng_state": torch.get_rng_state(), "cuda": [torch.get_rng_state()]},
    "callbacks": {"callbacks": {Meter: {"best": torch.tensor(1.0)}}, "hyper_parameters": Config(lr=0.1)},
    "a sparse tensor": {"graph": torch.eye(3).to_sparse()},
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_what_lies_beside_the_weights_does_no_harm(name, options, tmp_path):
    model, said = load(write(NEIGHBOURS[name] | {"state_dict": WEIGHTS}, tmp_path, **options))
    assert same(model, SOURCE) and not said


def legacy(path):
    torch.save({"net": WEIGHTS, "twice": list(WEIGHTS.values())}, path, _use_new_zipfile_serialization=False)


class Flat:
    """A storage, which a checkpoint names and holds apart."""

    def __init__(self, view):
        self.view = view


class Old(pickle.Pickler):
    """Writes tensors as PyTorch 0.3 did: parts of one storage, each a view of it."""

    def persistent_id(self, thing):
        return ("storage", torch.FloatStorage, "0", "cuda:0", 1, thing.view) if isinstance(thing, Flat) else None

    def reducer_override(self, thing):
        if not isinstance(thing, torch.Tensor):
            return NotImplemented
        place = Old.places[id(thing)]
        return torch._utils._rebuild_tensor, (Flat(("view", place, thing.numel())), 0, (*thing.shape,), thing.stride())


def views(path):
    """A file of PyTorch 0.3."""
    state = {name: tensor for name, tensor in WEIGHTS.items() if "num_batches" not in name}
    Old.places, place = {}, 0
    for tensor in state.values():
        Old.places[id(tensor)], place = place, place + tensor.numel()
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        Old(file, protocol=2).dump({"state_dict": state})
        pickle.dump(["0"], file, protocol=2)
        file.write(place.to_bytes(8, "little"))
        file.write(b"".join(tensor.numpy().tobytes() for tensor in state.values()))


def compressed(path):
    """A checkpoint that was unpacked and packed again."""
    torch.save(WEIGHTS, path)
    records = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as again:
        for name in records.namelist():
            again.writestr(name, records.read(name))


FORMATS = {
    "zip": lambda path: torch.save(WEIGHTS, path),
    "legacy": legacy,
    "protocol 4": lambda path: torch.save({"net": WEIGHTS}, path, pickle_protocol=4),
    "protocol 5, legacy": lambda path: torch.save(
        {"net": WEIGHTS}, path, pickle_protocol=5, _use_new_zipfile_serialization=False
    ),
    "of PyTorch 0.3": views,
    "compressed": compressed,
    "safetensors": lambda path: save_file(WEIGHTS, path),
    "safetensors, half, wrapped": lambda path: save_file(
        {f"model.module.{k}": v for k, v in WEIGHTS.items()}, path, metadata={"format": "pt"}
    ),
    "a mapping of its own": lambda path: torch.save(Config(state_dict=Config(WEIGHTS)), path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, tmp_path):
    path = tmp_path / "model.bin"
    FORMATS[name](path)
    assert same(load(path)[0], SOURCE)


def test_the_file_is_not_written_and_its_network_outlives_it(tmp_path):
    path = write(WEIGHTS, tmp_path)
    content = path.read_bytes()
    model, _ = load(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert path.read_bytes() == content
    model, _ = load(path)
    path.write_bytes(b"")
    assert same(model, SOURCE)


def test_only_what_is_wanted_is_read(tmp_path, monkeypatch):
    path = write({"net": WEIGHTS, "optimizer": {"a": [torch.ones(9, 9)]}, "ema": OTHERS}, tmp_path)
    made, frombuffer = [], torch.frombuffer
    monkeypatch.setattr(torch, "frombuffer", lambda *a, **k: made.append(k["count"]) or frombuffer(*a, **k))
    load(path)
    assert sum(made) == sum(tensor.numel() for tensor in WEIGHTS.values())


def wide(folder, form: str) -> list[str]:
    """A file of a network for digits in one of the forms, and the options that it needs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(*find("crt.archs", "cnn2c2f")(), 10, (0.3055,) * 3, (0.3759,) * 3)
    path, state = folder / "given.pth", model.state_dict()
    other = {name: tensor if "normalize" in name else -tensor for name, tensor in state.items()}
    match form:
        case "ours":
            torch.save(state, path)
        case "lightning":
            torch.save({"state_dict": front("model._orig_mod.", state), "args": argparse.Namespace(lr=1)}, path)
        case "ema":
            torch.save({"model": front("module.", other), "ema": state, "epoch": np.float64(1)}, path)
            return [str(path), "--key", "ema"]
        case "legacy":
            torch.save({"net": state}, path, _use_new_zipfile_serialization=False)
        case "safetensors":
            save_file(front("network.", state), path)
    return [str(path)]


def test_certify_finds_the_same_in_every_form(digits, tmp_path):
    tables, notes = [], []
    for form in ("ours", "lightning", "ema", "legacy", "safetensors"):
        out = tmp_path / f"{form}.tsv"
        options = ["--arch", "cnn2c2f", "--dataset", "digits", "--sigma", "0.25", "--n", "100", "--images", "3"]
        done = CliRunner().invoke(certify, [*wide(tmp_path, form), *options, "--data", str(digits), "--out", str(out)])
        assert done.exit_code == 0, done.output
        tables.append([line.split("\t")[:4] for line in out.read_text().splitlines()])
        notes.append("note:" in done.output)
        assert (json.loads(out.with_suffix(".json").read_text()).get("key")) == ("ema" if form == "ema" else None)
    assert all(table == tables[0] for table in tables) and len(tables[0]) == 4 and not any(notes)
    del options[-2:]
    torch.save({"model": WEIGHTS, "ema": WEIGHTS}, tmp_path / "two.pth")
    refused = CliRunner().invoke(certify, [str(tmp_path / "two.pth"), *options, "--key", "swa", "--data", str(digits)])
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "two.pth: holds no state dict under key 'swa' (allowed: model, ema)" in refused.stderr


MANIFEST = """
dataset: digits
loader: device
pipeline: plain
threat: {sigma: 0.25}
recipe: {epochs: 1, batch_size: 32, lr: 0.1}
images: 64
cells: [{method: CRT, arch: cnn2c2f, teacher: {weights: FILE, arch: cnn2c2f}}]
"""


def given(folder, more: str = "") -> pathlib.Path:
    path = folder / "m.yaml"
    path.write_text(MANIFEST.replace("FILE", str(folder / "given.pth") + more))
    return path


def test_a_teacher_is_chosen_by_key_which_is_part_of_its_identity(digits, tmp_path):
    wide(tmp_path, "ema")
    ids = [read_manifest(given(tmp_path, more)).cells[0].teacher.id for more in ("", ", key: ema", ", key: model")]
    content = hashlib.sha256((tmp_path / "given.pth").read_bytes()).hexdigest()
    assert len(set(ids)) == 3 and ids[0] == f"cnn2c2f-weights-{content[:8]}"
    options = ["--runs", str(tmp_path / "runs"), "--data", str(digits), "--launcher", "inline"]
    done = CliRunner().invoke(submit, [str(given(tmp_path, ", key: ema")), *options])
    assert done.exit_code == 0 and "note:" not in done.stderr, done.output
    refused = CliRunner().invoke(submit, [str(given(tmp_path, ", key: swa")), *options])
    assert refused.exit_code == 2 and "under key 'swa' (allowed: model, ema)" in refused.stderr
    noted = CliRunner().invoke(submit, [str(given(tmp_path)), *options[:1], str(tmp_path / "none"), *options[2:]])
    assert "given.pth: uses model, and not ema (key chooses)" in noted.stderr
    with pytest.raises(ValueError, match=r"teacher\.key: 3 \(allowed: the name of a state dict"):
        read_manifest(given(tmp_path, ", key: 3"))


def test_another_pickle_of_weights_is_named(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(WEIGHTS))
    with pytest.raises(ValueError, match=r"a\.pkl: is a pickle that torch\.save did not write"):
        load_weights(network(0), path, None)


def test_a_teacher_in_a_job_queued_before_there_was_a_key_has_none():
    weights = Weights(dataset="digits", arch="cnn2c2f", weights="model.pth", sha256="0" * 64)
    state = weights.__getstate__()
    del state["__dict__"]["key"]
    older = Weights.__new__(Weights)
    older.__setstate__(state)
    assert older == weights and older.id == weights.id
