"""The documentation names files, folders and modules that exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / name
        for name in (
            "README.md",
            "CONTRIBUTING.md",
            "manifests/README.md",
            "slurm/README.md",
            "reports/README.md",
            "crt/README.md",
        )
    ),
    *sorted((ROOT / "reports" / "published").glob("*.md")),
    ROOT / "tests" / "golden" / "report" / "README.md",
]
TOPS = ("bench", "crt", "launchers", "reports", "manifests", "slurm", "tests")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOPS)})/[\w./*-]*[\w*]")
"""A path from the top of the repository; a star stands for any name."""
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
"""A relative link, from the folder of its page."""
MODULE = re.compile(r"python -m ((?:bench|crt|launchers|reports)[\w.]*)")
TREE = re.compile(r"^    ( {0,2})([a-z_]+)/ ", re.MULTILINE)
"""A line of the tree in CONTRIBUTING.md: a folder, or one within the folder above."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def examples() -> set[str]:
    """The files that CONTRIBUTING.md has readers write."""
    return set(re.findall(r"`([\w/]+\.\w+)`:\n\n```", text(ROOT / "CONTRIBUTING.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_links_and_modules_exist(page):
    paths = set(FILE.findall(text(page))) - examples()
    assert [path for path in sorted(paths) if not list(ROOT.glob(path))] == []
    assert [link for link in LINK.findall(text(page)) if not (page.parent / link).exists()] == []
    assert [module for module in MODULE.findall(text(page)) if find_spec(module.rstrip(".")) is None] == []


def test_the_tree_has_every_folder_of_the_code():
    folders, top = set(), ""
    for indent, name in TREE.findall(text(ROOT / "CONTRIBUTING.md")):
        top = top if indent else name
        folders.add(f"{top}/{name}" if indent else name)
    packages = {file.parent.relative_to(ROOT) for top in TOPS[:4] for file in (ROOT / top).rglob("__init__.py")}
    expected = {str(package) for package in packages if len(package.parts) <= 2} - {"reports/published"}
    assert folders == expected | set(TOPS[4:])


def test_the_head_of_the_page_has_paths_to_check():
    assert {"manifests/smoothing.yaml", "manifests/table4.yaml"} <= set(FILE.findall(text(ROOT / "README.md")))
