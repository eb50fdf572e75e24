"""Read a manifest: YAML to cells, every name, argument and number checked here."""

from collections.abc import Sequence
from pathlib import Path

from bench.cell import digest
from bench.manifest import shipped
from bench.manifest.cell_reader import Reader
from bench.manifest.manifest import Manifest
from bench.manifest.overrides import override
from bench.manifest.strict_yaml import load_yaml
from crt.plugins import declared
from crt.text import check_folder_name


def read(path: Path, quick: bool = False, networks: bool = True, overrides: Sequence[str] = ()) -> Manifest:
    """The manifest in a file, or the shipped one of that name, reduced where `quick`.

    ValueError with file, place, value and what is allowed.

    `overrides` are set first, such as `recipe.epochs=3` (see `bench.manifest.overrides`). Whatever can be told from
    words is
    checked next. Then `networks` says whether networks are built, without storage, to see that methods and evaluations
    can take them: it needs torch, and only of manifests that hold such a choice.
    """
    content = load_yaml(shipped.manifest(path))
    try:
        manifest = _manifest(content, path, networks, overrides)
    except ValueError as error:
        blamed = _blamed(str(error), content, path, networks, overrides) if overrides else ""
        raise ValueError(f"{path}: {blamed}{error}") from None
    if not quick:
        return manifest
    from bench.manifest.quick import reduce

    return reduce(manifest)


def _manifest(content: dict, path: Path, networks: bool, overrides: Sequence[str]) -> Manifest:
    for words in overrides:
        content = override(content, words)
    reader = Reader(content)
    manifest = reader.manifest(_name(path))
    if networks:
        reader.check_networks()
    return manifest


def _blamed(message: str, content: dict, path: Path, networks: bool, overrides: Sequence[str]) -> str:
    """The override that an error comes with, to stand before its message; empty where the file has it by itself."""
    for count in range(len(overrides) + 1):
        try:
            _manifest(content, path, networks, overrides[:count])
        except ValueError as error:
            if str(error) == message:
                named = count == 0 or message.startswith("--set ")
                return "" if named else f"--set {overrides[count - 1]}: "
    return ""


def _name(path: Path) -> str:
    """The file's name without its suffix, by which the folders of its studies begin; ValueError if it cannot be."""
    check_folder_name(path.stem, max(len(f"-{arch}-{digest('')}") for arch in declared("crt.archs")))
    return path.stem
