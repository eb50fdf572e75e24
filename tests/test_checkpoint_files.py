"""Files that are no checkpoint, tensors that are no weights, and pickles that would run code: each named, none run."""

import copyreg
import functools
import gzip
import importlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import foreign, front, load, network, same
from safetensors.torch import save, save_file
from torch import nn
from typer.testing import CliRunner

from bench.certify import app as certify
from bench.submit import app as submit
from crt.models.import_weights.load import load_weights

SOURCE = network(0)
WEIGHTS = foreign(SOURCE)
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
)


def saved(held=WEIGHTS, **options) -> bytes:
    file = io.BytesIO()
    torch.save(held, file, **options)
    return file.getvalue()


OLD = {"_use_new_zipfile_serialization": False}


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return file.getvalue()


def tarred(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: tensor.numpy() for name, tensor in WEIGHTS.items()})
    return file.getvalue()


def script() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 2))), file)
    return file.getvalue()


def spoilt(content: bytes, place: int) -> bytes:
    return content[:place] + b"\0" * 16 + content[place + 16 :]


NOT_CHECKPOINTS = {
    "Git LFS pointer": (POINTER.encode(), r"is a Git LFS pointer .* \(run git lfs pull\)"),
    "git-annex pointer": (b"/annex/objects/SHA256E-s123--4d7a.pth\n", "is a git-annex pointer"),
    "HTML page": (
        b"<!DOCTYPE html>\n<html><title>Sign in</title></html>",
        "is an HTML page, as a site sends for a login",
    ),
    "HTML after blanks": (b"\n\n  <HTML lang='en'>quota exceeded</HTML>", "is an HTML page"),
    "HTML with a mark": ("\ufeff<html>é</html>".encode(), "is an HTML page"),
    "XML error": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is XML text"),
    "JSON error": (json.dumps({"message": "Not Found"}).encode(), "is JSON text, .*Not Found"),
    "index of shards": (json.dumps({"weight_map": {}}, indent=1).encode(), "is JSON text"),
    "plain text": (b"404: Not Found", "is text, not weights: '404: Not Found'"),
    "long text in letters of two bytes": ("é".encode() * 999 + b"!", "is text, not weights: 'ééé"),
    "empty file": (b"", "is an empty file"),
    "zeros": (bytes(5000), "is filled with zero bytes"),
    "truncated zip": (saved()[:-700], "is truncated or damaged: a zip archive without its end"),
    "half a zip": (saved()[: len(saved()) // 2], "is truncated or damaged: a zip archive without its end"),
    "truncated legacy": (saved(**OLD)[:-9], r"is truncated or damaged: .* \(ValueError: has \d+ of \d+ bytes"),
    "truncated legacy pickle": (saved(**OLD)[:300], "is truncated or damaged"),
    "truncated safetensors": (save(WEIGHTS)[:-9], "is truncated or damaged: .*SafetensorError"),
    "header of safetensors alone": (save(WEIGHTS)[:99], "is truncated or damaged"),
    "damaged pickle": (spoilt(saved(), saved().index(b"conv1.weight")), "is truncated or damaged"),
    "folder in a zip": (zipped("readme.md", "model/a.txt"), r"did not write: it holds readme.md, model/a.txt \(unpack"),
    "checkpoint in a zip": (zipped("model.pth"), r"it holds model.pth \(unpack it first\)"),
    "empty zip": (zipped(), "it holds nothing"),
    "zip without records": (zipped("a/data.pkl", "a/version"), "is truncated or damaged"),
    "NumPy arrays": (arrays(), r"is an archive of NumPy arrays \(.npz\)"),
    "Keras archive": (zipped("config.json", "model.weights.h5"), "is a Keras archive"),
    "TorchScript": (script(), "is a TorchScript archive, which is code as well as weights"),
    "exported program": (zipped("a/archive_format", "a/models/model.json"), "is an archive of torch.export"),
    "package": (zipped("p/.data/extern_modules", "p/m.py"), "is an archive of torch.package"),
    "gzip": (gzip.compress(saved()), r"is compressed by gzip \(unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + saved(), "is compressed by zstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + saved(), "is a 7z archive"),
    "tar": (tarred("model.pth", "log.txt"), r"is a tar archive \(unpack it first; if PyTorch before 0.1.10"),
    "very old checkpoint": (tarred("sys_info", "pickle", "storages", "tensors"), "PyTorch before 0.1.10"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file, as Keras and TensorFlow write"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.0.1" + bytes(99), "is a protocol buffer, as ONNX and TensorFlow"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(99), "is a GGUF file"),
    "NumPy array": (b"\x93NUMPY\x01\0" + bytes(99), "is a NumPy array"),
    "pickle": (pickle.dumps({"conv1.weight": np.ones(3)}), "is a pickle that torch.save did not write"),
    "pickle of protocol 2": (pickle.dumps([1], protocol=2), "is a pickle that torch.save did not write"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG image"),
    "other bytes": (bytes(range(255, 0, -1)), "is no kind of file that is known here: it begins with .* ff fe fd"),
    "one byte": (b"\x80", "is a pickle that torch.save did not write, or the beginning of one"),
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(name, tmp_path):
    content, message = NOT_CHECKPOINTS[name]
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


PLACES = {
    "missing": (lambda path: None, "missing"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a link to nothing": (lambda path: path.symlink_to("none"), "missing"),
    "links in a circle": (lambda path: path.symlink_to(path.name), "missing|symbolic links"),
    "a pipe": (lambda path: os.mkfifo(path), "is no regular file"),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_there_is_no_file(name, tmp_path):
    make, message = PLACES[name]
    make(tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: ({message}) \(allowed: a state dict"):
        load(tmp_path / "model.pth")


def test_what_the_system_refuses_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="File name too long"):
        load(tmp_path / ("a" * 300))
    (tmp_path / "model.pth").write_bytes(saved())
    opened = Path.open

    def refuses(self, *args, **kwargs):
        if self.name == "model.pth":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuses)
    with pytest.raises(ValueError, match=r"model\.pth: Permission denied"):
        load(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["Git LFS pointer", "HTML page", "truncated zip", "TorchScript", "empty file"])
def test_commands_refuse_in_one_line(name, digits, tmp_path):
    path, (content, message) = tmp_path / "model.pth", NOT_CHECKPOINTS[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as expected:
        load_weights(network(0), path, None)
    options = ["--arch", "cnn2c2f", "--dataset", "digits", "--sigma", "0.25", "--data", str(digits)]
    said = CliRunner().invoke(certify, [str(path), *options, "--out", str(tmp_path / "t.tsv")])
    (tmp_path / "m.yaml").write_text(
        "{dataset: digits, loader: device, pipeline: plain, threat: {sigma: 0.25}, images: 64,"
        " recipe: {epochs: 1, batch_size: 32, lr: 0.1},"
        f" cells: [{{method: CRT, arch: cnn2c2f, teacher: {{weights: {path}, arch: cnn2c2f}}}}]}}"
    )
    options = ["--launcher", "inline", "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    also = CliRunner().invoke(submit, [str(tmp_path / "m.yaml"), *options])
    assert said.exit_code == also.exit_code == 2 and said.stderr == also.stderr == f"error: {expected.value}\n"
    assert not (tmp_path / "runs").exists() and not (tmp_path / "t.tsv").exists()


def with_values(*values: float) -> dict:
    bias = WEIGHTS["fc.bias"].clone()
    bias[: len(values)] = torch.tensor(values)
    return WEIGHTS | {"fc.bias": bias}


def each(function, *names: str) -> dict:
    return {name: function(tensor) if not names or name in names else tensor for name, tensor in WEIGHTS.items()}


class Tagged(torch.Tensor):
    """A kind of tensor that another library has."""


BAD_TENSORS = {
    "int8": (
        each(lambda t: t.to(torch.int8), "fc.weight"),
        r"1 int8 tensor \(head.weight\) \(allowed for weights: ",
    ),
    "int64": (each(lambda t: t.long()), r"\d+ int64 tensors \(body.0.weight, body.1.weight, body.1.bias, …\)"),
    "uint8": (each(lambda t: t.to(torch.uint8), "fc.bias"), "1 uint8 tensor"),
    "bool": (each(lambda t: t > 0, "conv1.weight"), r"1 bool tensor \(conv1.weight\)"),
    "complex64": (each(lambda t: t.to(torch.complex64), "fc.weight"), r"1 complex64 tensor \(fc.weight\)"),
    "complex128": (each(lambda t: t.to(torch.complex128), "fc.weight"), "1 complex128 tensor"),
    "sparse": (lambda: each(lambda t: t.to_sparse(), "fc.weight"), r"1 sparse tensor \(fc.weight\)"),
    "sparse CSR": (lambda: each(lambda t: t.to_sparse_csr(), "fc.weight"), "1 sparse tensor"),
    "quantized": (
        lambda: each(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "conv1.weight"),
        r"1 quantized tensor \(conv1.weight\)",
    ),
    "meta": (each(lambda t: t.to("meta")), r"\d+ meta tensors"),
    "float8": (each(lambda t: t.to(torch.float8_e4m3fn), "fc.weight"), "1 float8_e4m3fn tensor"),
    "uint16": (each(lambda t: t.to(torch.uint16), "fc.weight"), "1 uint16 tensor"),
    "NaN": (with_values(float("nan")), r"head.bias: 1 of 10 values are NaN or infinite in float32"),
    "infinity": (with_values(float("inf"), float("-inf")), r"head.bias: 2 of 10 values are NaN or infinite"),
    "NaN in a buffer": (
        each(lambda t: t * float("nan"), "bn1.running_var"),
        "body.1.running_var: 4 of 4 values are NaN",
    ),
    "NaN in half precision": (
        each(lambda t: (t * float("nan")).half(), "fc.bias"),
        "head.bias: 10 of 10 values are NaN",
    ),
    "beyond float32": (each(lambda t: t.double() * 1e200, "fc.bias"), "head.bias: 10 of 10 values are NaN or infinite"),
    "integer constants": ({"0.mean": torch.zeros(3).long()} | front("1.", WEIGHTS), r"1 int64 tensor \(mean\)"),
    "complex constants": ({"0.mean": torch.ones(3) * 1j} | front("1.", WEIGHTS), r"1 complex64 tensor \(mean\)"),
    "arrays": (
        {k: v.numpy() for k, v in WEIGHTS.items()},
        r"holds no state dict, .* net.conv1.weight \(a NumPy array\)",
    ),
    "lists": ({k: v.tolist() for k, v in WEIGHTS.items()}, r"holds no state dict, .* net.conv1.weight \(list\)"),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse|quant|prototype).*")
@pytest.mark.parametrize("name", BAD_TENSORS)
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_are_no_weights_are_named(name, legacy, tmp_path):
    state, message = BAD_TENSORS[name]
    state = state() if callable(state) else state
    (tmp_path / "model.pth").write_bytes(saved({"net": state}, **(OLD if legacy else {})))
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path / "model.pth", normalize=None if "constants" in name else True)
    assert str(refused.value).startswith(f"{tmp_path / 'model.pth'}: ")


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float8_e5m2", "uint16"])
def test_safetensors_of_other_kinds_are_named(dtype, tmp_path):
    save_file(WEIGHTS | {"fc.weight": torch.ones(10, 8).to(getattr(torch, dtype))}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"1 \w+ tensor \((head|fc)\.weight\) \(allowed"):
        load(tmp_path / "m.safetensors")


def test_a_tensor_of_another_class_is_read_as_what_it_is(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(saved(each(lambda tensor: tensor.as_subclass(Tagged), "fc.weight")))
    assert same(load(path)[0], SOURCE)


PICKLED = {
    "a module": (
        network(0),
        r"holds a pickled module \(crt.models.classifier.Classifier\), which only running its own code can",
    ),
    "a module in a dictionary": ({"model": network(0), "epoch": 3}, "holds a pickled module"),
    "a module in DataParallel": (
        {"net": nn.DataParallel(network(0))},
        r"\(torch.nn.parallel.data_parallel.DataParallel",
    ),
    "a module and its average": (
        {"model": network(0), "ema": network(0)},
        r"\(crt.models.classifier.Classifier, crt.models.classifier.Classifier\)",
    ),
    "a layer": (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
}


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_refused_with_what_is_needed(name, legacy, tmp_path):
    held, message = PICKLED[name]
    (tmp_path / "model.pth").write_bytes(saved(held, **(OLD if legacy else {})))
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path / "model.pth")
    assert "save its state_dict() alone" in str(refused.value)


def test_damaged_sizes_are_refused(tmp_path):
    real = torch._utils._rebuild_tensor_v2

    class Sized:
        def __init__(self, offset, size, stride):
            self.asked = offset, size, stride

        def __reduce__(self):
            return real, (torch.ones(80)._typed_storage(), *self.asked, False, {})

    for asked in ((0, (10, 8), (8000, 1)), (-4, (10, 8), (8, 1)), (9**9, (10, 8), (8, 1)), (0, (10, 8), ("a", 1))):
        path = tmp_path / "model.pth"
        path.write_bytes(saved(WEIGHTS | {"fc.weight": Sized(*asked)}))
        with pytest.raises(ValueError, match=r"is truncated or damaged at head\.weight"):
            load(path)


class Reduced:
    """Is pickled as a call."""

    def __init__(self, function, *args, **more):
        self.call = (function, args, *more.values())

    def __reduce__(self):
        return self.call


class Restored:
    """Runs a command when its state is set, which unpickling does."""

    def __init__(self, command: str):
        self.command = command

    def __setstate__(self, state):
        os.system(state["command"])


def module_that_writes(marker: Path) -> Reduced:
    (marker.parent / "hostile_module.py").write_text(f"open({str(marker)!r}, 'w')\ndef anything(): pass\n")
    return Reduced(importlib.import_module, "hostile_module")


HOSTILE = {
    "os.system": lambda marker: Reduced(os.system, f"touch {marker}"),
    "eval": lambda marker: Reduced(eval, f"open({str(marker)!r}, 'w')"),
    "exec": lambda marker: Reduced(exec, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Reduced(open, str(marker), "w"),
    "subprocess": lambda marker: Reduced(subprocess.call, ["touch", str(marker)]),
    "partial": lambda marker: Reduced(functools.partial(os.system, f"touch {marker}")),
    "map": lambda marker: Reduced(list, Reduced(map, os.system, [f"touch {marker}"])),
    "__setstate__": lambda marker: Restored(f"touch {marker}"),
    "a pickle in a pickle": lambda marker: Reduced(pickle.loads, pickle.dumps(Reduced(os.system, f"touch {marker}"))),
    "torch.load in torch.load": lambda marker: Reduced(
        functools.partial(torch.load, weights_only=False), io.BytesIO(saved(Reduced(os.system, f"touch {marker}")))
    ),
    "a storage from bytes": lambda marker: Reduced(
        torch.storage._load_from_bytes, saved(Reduced(os.system, f"touch {marker}"))
    ),
    "a tensor's own class": lambda marker: Reduced(
        torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (f"touch {marker}",), {}
    ),
    "a parameter of a call": lambda marker: Reduced(
        torch._utils._rebuild_parameter, Reduced(os.system, f"touch {marker}"), False, {}
    ),
    "items": lambda marker: Reduced(
        dict, state=None, items=None, pairs=iter([("a", Reduced(os.system, f"touch {marker}"))])
    ),
    "an import": module_that_writes,
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("hostile_module", None)


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_runs_that_a_pickle_names(name, options, tmp_path, marker):
    path = tmp_path / "model.pth"
    path.write_bytes(saved({"state_dict": WEIGHTS, "hook": HOSTILE[name](marker)}, **options))
    model, _ = load(path)
    assert same(model, SOURCE) and not marker.exists() and "hostile_module" not in sys.modules
    path.write_bytes(saved(WEIGHTS | {"fc.bias": HOSTILE[name](marker)}, **options))
    with pytest.raises(ValueError, match="missing"):
        load(path)
    assert not marker.exists() and "hostile_module" not in sys.modules
    try:  # it is hostile: the usual unpickler runs it
        torch.load(path, weights_only=False)
    except Exception as error:
        print(error)
    assert marker.exists()


def spliced(pickled: bytes) -> bytes:
    """A checkpoint whose pickle is another."""
    whole, file = zipfile.ZipFile(io.BytesIO(saved())), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, pickled if name.endswith("data.pkl") else whole.read(name))
    return file.getvalue()


ASSEMBLED = {
    "INST of protocol 0": lambda marker: b"(S'touch %s'\nios\nsystem\n." % marker,
    "OBJ of protocol 1": lambda marker: (
        b"(cos\nsystem\nX" + struct.pack("<I", len(marker) + 6) + b"touch " + marker + b"o."
    ),
    "GLOBAL and REDUCE": lambda marker: b"cposix\nsystem\n(S'touch %s'\ntR." % marker,
    "a dotted name": lambda marker: b"\x80\x04\x8c\x02os\x8c\x0dsystem.__call\x93(S'touch %s'\ntR." % marker,
    "a class's attributes": lambda marker: b"ctorch.nn\nModule\n(N(S'forward'\ncos\nsystem\ndtb.",
    "a function's state": lambda marker: b"ccrt.weights\nload_weights\n(S'__defaults__'\n(I1\ntdb.",
    "no persistent id": lambda marker: b"Pos.system\n.",
    "a persistent id that is no storage": lambda marker: b"(S'module'\ncos\nsystem\nS'touch %s'\ntQ." % marker,
    "a list without end": lambda marker: b"(lp0\ng0\na.",
    "deep nesting": lambda marker: b"(" * 100_000 + b"t" * 100_000 + b".",
    "an extension": lambda marker: b"\x82\xf0(S'touch %s'\ntR." % marker,
}


@pytest.mark.parametrize("name", ASSEMBLED)
def test_assembled_pickles_run_nothing(name, tmp_path, marker):
    copyreg.add_extension("os", "system", 0xF0)
    path, forward, defaults = tmp_path / "model.pth", nn.Module.forward, load_weights.__defaults__
    path.write_bytes(spliced(ASSEMBLED[name](str(marker).encode())))
    try:
        with pytest.raises(ValueError, match=r"model\.pth: (is truncated or damaged|holds no state dict)"):
            load(path)
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
    assert not marker.exists() and nn.Module.forward is forward and load_weights.__defaults__ is defaults
    if name in (
        "INST of protocol 0",
        "OBJ of protocol 1",
        "GLOBAL and REDUCE",
    ):  # it is hostile: the usual unpickler runs it
        pickle.loads(ASSEMBLED[name](str(marker).encode()))
        assert marker.exists()
