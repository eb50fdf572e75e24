"""Read a manifest from YAML into cells, and check every name, argument and number."""

from collections.abc import Sequence
from pathlib import Path

from bench.cell import digest
from bench.manifest import shipped
from bench.manifest.expand import Expansion
from bench.manifest.manifest import Manifest
from bench.manifest.overrides import override
from bench.manifest.parse import ParsedManifest
from bench.manifest.strict_yaml import load_yaml
from bench.manifest.validate import cell_fits, comparisons_fit, networks_fit, study_fits
from bench.published import Published
from crt.plugins import modules
from crt.text import check_folder_name, shorten


def read(path: Path, quick: bool = False, networks: bool = True, overrides: Sequence[str] = ()) -> Manifest:
    """The manifest in a file, or the shipped manifest of that name, reduced if `quick`.

    `overrides`, such as `recipe.epochs=3`, are set before anything is checked (see `bench.manifest.overrides`). With
    `networks`, the networks are built without storage to check that their methods and evaluations take them. That needs
    torch, and is done only for methods and evaluations that do not take every network.

    ValueError with file, place, value and what is allowed.
    """
    content = load_yaml(shipped.manifest(path))
    try:
        manifest = _manifest(content, path, networks, overrides)
    except ValueError as error:
        cause = _cause(str(error), content, path, networks, overrides) if overrides else ""
        raise ValueError(f"{path}: {cause}{error}") from None
    if not quick:
        return manifest
    from bench.manifest.quick import reduce

    return reduce(manifest)


def _manifest(content: dict, path: Path, networks: bool, overrides: Sequence[str]) -> Manifest:
    for words in overrides:
        content = override(content, words)
    name, parsed = _name(path), ParsedManifest(content)
    expansion = Expansion(parsed)
    for cell, block, where in expansion.placed:
        with parsed.pointing(block):
            cell_fits(cell, where)
    head = parsed.head
    manifest = Manifest(
        name=name,
        title=parsed.title or name,
        baseline=head.baseline,
        timing=head.timing,
        control=head.control,
        cells=expansion.cells,
        published=head.published or Published(),
    )
    study_fits(manifest)
    if not overrides:  # which may take away the cells that a published comparison is about
        comparisons_fit(manifest)
    for cell, block, where in expansion.placed if networks else ():
        with parsed.pointing(block):
            networks_fit(cell, where)
    return manifest


def _cause(message: str, content: dict, path: Path, networks: bool, overrides: Sequence[str]) -> str:
    """The override that causes an error, as a prefix of its message; empty if the file itself causes it."""
    for count in range(len(overrides) + 1):
        try:
            _manifest(content, path, networks, overrides[:count])
        except ValueError as error:
            if str(error) == message:
                complete = count == 0 or message.startswith("--set ")
                return "" if complete else f"--set {shorten(overrides[count - 1])}: "
    return ""


def _name(path: Path) -> str:
    """The file's name without its suffix, which begins the folder names of its studies; ValueError if it cannot."""
    check_folder_name(path.stem, max(len(f"-{arch}-{digest('')}") for arch in modules("crt.archs")))
    return path.stem
