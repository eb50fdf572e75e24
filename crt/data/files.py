"""Files of a folder or of archives by path: one interface for all forms in which images are kept."""

import os
import posixpath
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crt.disk import read_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
_DEBRIS = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
"""Names that operating systems leave behind, besides those that begin with a dot."""
_MOST_LINKS = 40
"""Largest number of links in one path; Linux has the same limit."""


class Files(Protocol):
    """Files by path; `/` separates the parts of a path, and the top folder's path is empty."""

    def describe(self, path: str) -> str:
        """The path for messages."""
        ...

    def is_folder(self, path: str) -> bool:
        """True for a folder and for a link to one."""
        ...

    def entries(self, folder: str) -> dict[str, bool]:
        """The names in a folder in its order, each with True for a folder, without hidden files.

        ValueError for a link that leads nowhere.
        """
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        ...


def is_image(name: str) -> bool:
    """True for a name with one of `SUFFIXES`, in any case."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """True for a name that is hidden or that an operating system left behind."""
    return name.startswith(".") or name in _DEBRIS


class Folder:
    """The files below a folder on a disk; links are followed."""

    def __init__(self, root: Path):
        self._root = root

    def describe(self, path: str) -> str:
        """The path on the disk."""
        return str(self._root / path)

    def is_folder(self, path: str) -> bool:
        """True for a folder and for a link to one."""
        return os.path.isdir(self._root / path)

    def entries(self, folder: str) -> dict[str, bool]:
        """The names in a folder; only links are examined one by one, since there may be a million files."""
        names = {}
        with os.scandir(self._root / folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink() and not os.path.exists(entry.path):
                    raise ValueError(
                        f"{entry.path}: a link to {os.readlink(entry.path)}, which leads nowhere"
                        " (allowed: links to files and folders that exist)"
                    )
                names[entry.name] = entry.is_dir()
        return dict(sorted(names.items()))

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        return read_file(self._root / path)


@dataclass(frozen=True)
class Link:
    """A link within an archive; a hard link's target is relative to the top, a symbolic link's to the link's folder."""

    target: str
    hard: bool = False


class Archive(ABC):
    """The files of archives by path; links within them are followed. Messages name the archives by `name`."""

    def __init__(self, name: str):
        self.name = name
        self._folders: dict[str, dict[str, tuple | Link | None]] = {"": {}}

    def describe(self, path: str) -> str:
        """The path, preceded by the archive's name."""
        return f"{self.name}: {path}" if path else self.name

    def add_folder(self, path: str) -> str:
        """Add a folder and those above it; the normalized path: relative, without `.` and `..`."""
        path = posixpath.normpath("/" + path.lstrip("/"))[1:]
        if path not in self._folders:
            parent, name = posixpath.split(path)
            self._folders[self.add_folder(parent)].setdefault(name, None)
            self._folders[path] = {}
        return path

    def add(self, path: str, content: tuple | Link) -> None:
        """Add a link, or a file by the argument of `load`; it replaces an earlier one at its path, as in unpacking."""
        parent, name = posixpath.split(path)
        self._folders[self.add_folder(parent)][name] = content

    @abstractmethod
    def load(self, content: tuple) -> bytes:
        """The bytes of an added file."""

    def resolve(self, path: str) -> str:
        """The path with every link resolved; ValueError for one that leaves the archive, dangles or loops."""
        here, rest, links = "", path.split("/") if path else [], 0
        link = None
        while rest:
            name = rest.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                if not here:
                    raise self._broken(path, link, "leaves the archive")
                here = posixpath.dirname(here)
                continue
            content = self._folders.get(here, {}).get(name, self)
            if content is self:
                raise self._broken(path, link, "is not in the archive")
            if not isinstance(content, Link):
                here = posixpath.join(here, name)
                continue
            link, links = content, links + 1
            if links > _MOST_LINKS:
                raise self._broken(path, link, "leads back to itself")
            if not link.hard and link.target.startswith("/"):
                raise self._broken(path, link, "leaves the archive")
            rest = link.target.split("/") + rest
            here = "" if link.hard else here
        return here

    def _broken(self, path: str, link: Link | None, fault: str) -> ValueError:
        what = f"a link to {link.target}, which {fault}" if link else fault
        return ValueError(f"{self.describe(path)}: {what} (allowed: links to files and folders of the same archive)")

    def is_folder(self, path: str) -> bool:
        """True for a folder and for a link to one."""
        parent, name = posixpath.split(path)
        linked = isinstance(self._folders.get(parent, {}).get(name), Link)
        return path in self._folders or (linked and self.resolve(path) in self._folders)

    def find(self, name: str) -> list[str]:
        """Paths of folders and links to folders with this name, outside hidden folders, the topmost first."""
        paths = (posixpath.join(folder, name) for folder, names in self._folders.items() if name in names)
        shown = [path for path in paths if not any(map(is_hidden, path.split("/"))) and self.is_folder(path)]
        return sorted(shown, key=lambda path: (path.count("/"), path))

    def entries(self, folder: str) -> dict[str, bool]:
        """The names in a folder, each with True for a folder; ValueError for a link that leads nowhere."""
        real = self.resolve(folder)
        names = {}
        for name, content in sorted(self._folders[real].items()):
            if not is_hidden(name):
                path = posixpath.join(real, name)
                names[name] = (self.resolve(path) in self._folders) if isinstance(content, Link) else content is None
        return names

    def content(self, path: str) -> tuple | None:
        """The member at a path, with links followed; None for a folder."""
        parent, name = posixpath.split(self.resolve(path))
        content = self._folders[parent].get(name)
        return content if isinstance(content, tuple) else None

    def read(self, path: str) -> bytes:
        """The bytes of a file; ValueError for a folder."""
        content = self.content(path)
        if content is None:
            raise ValueError(f"{self.describe(path)}: a folder (allowed: a file)")
        return self.load(content)
