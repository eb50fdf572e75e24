"""Bundles of records: what is exported is imported unchanged, and what is not as it should be is refused whole."""

import hashlib
import json
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import export, import_
from bench.commands import bundle_archive, import_bundle
from bench.commands.bundle import INDEX, MANIFEST, Index
from bench.manifest import read_manifest
from bench.records import SCHEMA
from reports.__main__ import app as report

HOME = Path(__file__).parent / "golden" / "report"
NAMES = ["adversarial", "timing", "scaling", "autoattack"]
Change = Callable[[dict[str, bytes]], None]


def command(app, *words: str | Path, code: int = 0) -> str:
    """Run a command in the folder of the frozen records, and return its output."""
    with chdir(HOME):
        done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, done.output
    if code:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and not done.stdout
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name in NAMES:
        command(export.app, f"manifests/{name}.yaml", "--to", folder / f"{name}.zip")
    return folder


@pytest.fixture
def bundle(bundles) -> Path:
    return bundles / "autoattack.zip"


def content(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return file


def sealed(bundle: dict[str, bytes], **changes: object) -> None:
    """Write the index anew with these changes and a digest that fits, as a forger would."""
    index = json.loads(bundle[INDEX]) | changes | {"digest": None}
    bundle[INDEX] = Index.model_validate_json(json.dumps(index), strict=True).sealed().model_dump_json().encode()


def records(runs: Path) -> dict[str, bytes]:
    return {file.relative_to(runs).as_posix(): file.read_bytes() for file in runs.rglob("*.jsonl")}


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_bundle_gives_the_same_report(bundles, tmp_path, name):
    said = command(import_.app, bundles / f"{name}.zip", "--runs", tmp_path / "theirs")
    (manifest,) = (tmp_path / "theirs").glob("bundles/*/*.yaml")
    assert str(manifest) in said and manifest.read_bytes() == (HOME / f"manifests/{name}.yaml").read_bytes()
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    command(report, f"manifests/{name}.yaml", "--wide-csv", ours)
    command(report, manifest, "--runs", tmp_path / "theirs", "--wide-csv", theirs)
    for file in tmp_path.glob("ours*.csv"):
        other = file.with_name(file.name.replace("ours", "theirs"))
        frames = (pd.read_csv(each).drop(columns="folder", errors="ignore") for each in (file, other))
        pd.testing.assert_frame_equal(*frames)
    assert not list((tmp_path / "theirs").glob(".import*")) and not list((tmp_path / "theirs").rglob("*.pt"))


def test_equal_records_give_equal_bundles_and_are_skipped(bundle, tmp_path):
    command(export.app, "manifests/autoattack.yaml", "--to", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    runs = tmp_path / "runs"
    command(import_.app, bundle, "--runs", runs)
    before = records(runs)
    said = command(import_.app, bundle, "--runs", runs)
    assert "imported 0 folders" in said and records(runs) == before
    manifest = read_manifest(HOME / "manifests" / "autoattack.yaml", networks=False)
    assert {Path(path).parts[0] for path in before} >= {cell.id for cell in manifest.cells}


def test_only_whole_lines_are_exported(tmp_path):
    runs = tmp_path / "runs"
    command(import_.app, "--runs", runs, exported(tmp_path, HOME / "runs"))
    file = next(runs.glob("*/train.jsonl"))
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind": "epo')
    again = exported(tmp_path, runs, "again.zip")
    assert content(again)[f"records/{file.relative_to(runs)}"] == whole
    file.write_bytes(whole + b"no record\n")
    said = command(export.app, "manifests/autoattack.yaml", "--runs", runs, "--to", tmp_path / "x.zip", code=2)
    assert str(file) in said and "not a JSON object" in said and not (tmp_path / "x.zip").exists()


def exported(tmp_path: Path, runs: Path, name: str = "bundle.zip") -> Path:
    command(export.app, "manifests/autoattack.yaml", "--runs", runs, "--to", tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "x.tar"], "--to x.tar: '.tar' (allowed: .zip)"),
        (["--to", "none/x.zip"], "--to none/x.zip: no folder none"),
        (["--runs", "none", "--to", "x.zip"], "manifests/autoattack.yaml: no records of its cells in none (allowed"),
    ],
)
def test_an_export_that_cannot_be_made(words, said):
    assert said in command(export.app, "manifests/autoattack.yaml", *words, code=2)
    assert not (HOME / "x.zip").exists()


def test_no_changed_byte_changes_what_is_imported(bundle, tmp_path):
    """Either the bundle is refused, or its records are the same: some bytes of a zip, such as dates, mean nothing."""
    whole, draws = bundle.read_bytes(), random.Random(0)
    command(import_.app, bundle, "--runs", tmp_path / "runs")
    expected, refused = records(tmp_path / "runs"), 0
    for attempt in range(40):
        place = draws.randrange(len(whole))
        changed = bytes([whole[place] ^ (1 << draws.randrange(8))])
        (tmp_path / "x.zip").write_bytes(whole[:place] + changed + whole[place + 1 :])
        runs = tmp_path / f"runs{attempt}"
        with chdir(HOME):
            done = CliRunner().invoke(import_.app, [str(tmp_path / "x.zip"), "--runs", str(runs)])
        if done.exit_code:
            assert done.exit_code == 2 and done.stderr.count("\n") == 1, (place, done.output, done.exception)
            assert not runs.exists(), place
            refused += 1
        else:
            assert records(runs) == expected, place
    assert refused > 20


def first(files: dict[str, bytes], end: str = "train.jsonl") -> str:
    return next(name for name in files if name.endswith(end))


def changed_record(files):
    files[first(files)] = files[first(files)].replace(b'"loss":', b'"loss":1', 1)


def missing_file(files):
    del files[first(files)]


def added_file(files):
    files["records/other-Standard-s0-00000000/train.jsonl"] = b""


def changed_manifest(files):
    files[MANIFEST] = files[MANIFEST].replace(b"epochs: ", b"epochs: 1")


def forged_manifest(files):
    changed_manifest(files)
    sealed(files, manifest=hashlib.sha256(files[MANIFEST]).hexdigest())


def changed_index(files):
    files[INDEX] = files[INDEX].replace(b'"quick": false', b'"quick": true')


def forged(files: dict[str, bytes], old: str, new: str, text: bytes) -> None:
    """Replace a file of records, and list it in the index as if it had been exported."""
    del files[old]
    files[new] = text
    listed = [each for each in json.loads(files[INDEX])["files"] if f"records/{each['path']}" != old]
    entry = {"path": new.removeprefix("records/"), "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    sealed(files, files=[*listed, entry])


def other_cell(files):
    old = first(files)
    forged(files, old, "records/cnn2c2f-Standard-s0-00000000/train.jsonl", files[old])


def records_of_another_cell(files):
    one, other = (name for name in list(files) if name.endswith("train.jsonl"))
    forged(files, one, one, files[other])


def unreadable(files):
    old = first(files)
    forged(files, old, old, files[old] + b'{"kind": "epoch"}\n')


def open_end(files):
    old = first(files)
    forged(files, old, old, files[old].rstrip(b"\n"))


def newer_records(files):
    old = first(files)
    forged(files, old, old, files[old].replace(b'"schema":', b'"schema":9'))


def newer_schema(files):
    sealed(files, records_schema=SCHEMA + 1)


def newer_format(files):
    files[INDEX] = files[INDEX].replace(b'"format": 1', b'"format": 2')


def other_origin(files):
    origins = json.loads(files[INDEX])["origins"]
    sealed(files, origins=[{**each, "device": "NVIDIA H100"} for each in origins])


def name_with_folder(files):
    sealed(files, name="../../escaped")


def leaves_the_folder(files):
    files["records/../../escaped.jsonl"] = b""


def absolute(files):
    files["/tmp/escaped.jsonl"] = b""


def backslash(files):
    files["records\\..\\escaped.jsonl"] = b""


def no_index(files):
    del files[INDEX]


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (changed_record, "train.jsonl", "changed: its digest is another (allowed: SHA-256"),
        (missing_file, "train.jsonl", "missing (allowed: the files of the index)"),
        (added_file, "other-Standard", "not in the index (allowed"),
        (changed_manifest, MANIFEST, "changed: its digest is another"),
        (forged_manifest, INDEX, "(allowed: the ids of the manifest's cells by this version)"),
        (changed_index, INDEX, "changed: its digest is another"),
        (other_cell, "cnn2c2f-Standard-s0-00000000", "does not follow from the manifest (allowed"),
        (records_of_another_cell, "train.jsonl", ": records of cnn2c2f-"),
        (unreadable, "train.jsonl", "(1 line) (allowed: records of schema"),
        (open_end, "train.jsonl", "its last line does not end (allowed: whole lines)"),
        (newer_records, "train.jsonl", f"this version reads schema {SCHEMA}"),
        (newer_schema, INDEX, f"records of schema {SCHEMA + 1} (allowed: 2, 3"),
        (newer_format, INDEX, "Input should be 1 (allowed: format 1"),
        (other_origin, INDEX, "other origins than the records have"),
        (name_with_folder, INDEX, "(allowed: the name of a file)"),
        (leaves_the_folder, "records/../../escaped.jsonl", "no file of a bundle (allowed"),
        (absolute, "/tmp/escaped.jsonl", "no file of a bundle (allowed"),
        (backslash, "escaped.jsonl", "no file of a bundle (allowed"),
        (no_index, INDEX, "missing (allowed: a bundle that bench.export wrote)"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_exported_is_refused_whole(bundle, tmp_path, change: Change, place, said):
    files = content(bundle)
    change(files)
    file = written(tmp_path / "x.zip", files)
    message = command(import_.app, file, "--runs", tmp_path / "runs", code=2)
    assert message.startswith(f"error: {file}: ") and place in message and said in message
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


def entry(name: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = kind << 16
    return info


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_links_folders_and_pipes_are_refused(bundle, tmp_path, kind):
    file = shutil.copy(bundle, tmp_path / "x.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry("records/a/link.jsonl", kind | 0o777), "/etc/passwd")
    message = command(import_.app, file, "--runs", tmp_path / "runs", code=2)
    assert "a link, a folder or a device (allowed: files)" in message and not (tmp_path / "runs").exists()


def test_a_file_that_is_twice_in_the_zip_is_refused(bundle, tmp_path):
    file = shutil.copy(bundle, tmp_path / "x.zip")
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(INDEX, "{}")
    assert "twice in the zip" in command(import_.app, file, "--runs", tmp_path / "runs", code=2)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bundle, tmp_path, monkeypatch):
    files = content(bundle)
    monkeypatch.setattr(bundle_archive, "MOST_BYTES", sum(map(len, files.values())))
    command(import_.app, bundle, "--runs", tmp_path / "runs")
    files["records/a/bomb.jsonl"] = bytes(10**6)
    file = written(tmp_path / "x.zip", files)
    for name, said in (("MOST_BYTES", "unpacks to"), ("MOST_FILE", "records/a/bomb.jsonl: 1,000,000 bytes (allowed: ")):
        message = command(import_.app, file, "--runs", tmp_path / "other", code=2)
        assert said in message and "at most)" in message and not (tmp_path / "other").exists()
        monkeypatch.setattr(bundle_archive, name, 10**9)
        monkeypatch.setattr(bundle_archive, "MOST_FILE", 10**6 - 1)


def test_an_entry_that_is_longer_than_stated_is_not_unpacked(bundle, tmp_path):
    """A directory that lies about sizes: the entry's content is read up to the stated size at most."""
    raw = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        start, infos = archive.start_dir, archive.infolist()
    for info in infos:
        if info.filename == MANIFEST:
            struct.pack_into("<L", raw, start + 24, 10)
        start += 46 + len(info.filename)
    (tmp_path / "x.zip").write_bytes(raw)
    message = command(import_.app, tmp_path / "x.zip", "--runs", tmp_path / "runs", code=2)
    assert MANIFEST in message and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no zip at all, but longer than the end of one",
        b"PK\x05\x06" + bytes(4) + struct.pack("<2H", 65_000, 65_000) + bytes(10),
        b"PK\x05\x06" + bytes(8) + struct.pack("<2L", 2**31, 0) + bytes(2),
        b"before" + b"PK\x05\x06" + bytes(18),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(tmp_path, raw):
    (tmp_path / "x.zip").write_bytes(raw)
    assert "(allowed: " in command(import_.app, tmp_path / "x.zip", "--runs", tmp_path / "runs", code=2)
    assert not (tmp_path / "runs").exists()


def test_a_cell_with_other_records_is_never_overwritten(bundle, tmp_path):
    runs = tmp_path / "runs"
    command(import_.app, bundle, "--runs", runs)
    file = max(runs.glob("*/judge-*.jsonl"))
    shutil.rmtree(min(runs.glob("cnn*")))
    for other in (lambda: file.write_bytes(file.read_bytes()[:-1] + b" \n"), file.unlink):
        other()
        before = records(runs)
        message = command(import_.app, bundle, "--runs", runs, code=2)
        assert f"{file.parent} has other records (allowed: no such folder, or equal records)" in message
        assert records(runs) == before and not list(runs.glob(".import*"))


def test_a_failure_while_cells_are_moved_moves_all_back(bundle, tmp_path, monkeypatch):
    rename, moved = Path.rename, []

    def full(self: Path, target: Path):
        if len(moved) == 1:
            moved.append(None)
            raise OSError(28, "No space left on device", str(target))
        moved.append(target)
        return rename(self, target)

    monkeypatch.setattr(import_bundle.Path, "rename", full)
    assert "No space left" in command(import_.app, bundle, "--runs", tmp_path / "runs", code=2)
    assert len(moved) == 3 and not (tmp_path / "runs").exists()
