"""A small disk for the runs folder, which can be filled, renamed away or unmounted for a while."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MEGABYTES = 640


class Disk:
    """A tmpfs at a folder, with the runs folder on it."""

    def __init__(self, folder: Path):
        self.folder, self._elsewhere = folder, folder.with_name(f"{folder.name}-elsewhere")
        self.runs = folder / "runs"
        self._filler, self._away = folder / "filler", folder / "runs-away"
        self._strays = 0

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        """Mount it. What an earlier campaign left mounted there is unmounted first."""
        for folder in (self.folder, self._elsewhere):
            folder.mkdir(parents=True, exist_ok=True)
            while os.path.ismount(folder):
                subprocess.run(["umount", "-l", str(folder)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(self.folder)], check=True)
        self.runs.mkdir()
        try:
            yield self
        finally:
            for folder in (self.folder, self._elsewhere):
                if os.path.ismount(folder):
                    subprocess.run(["umount", "-l", str(folder)], check=True)

    def fill(self, left: int) -> bool:
        """Fill it up to `left` bytes; False where it is full already."""
        if self._filler.exists() or not self.is_there:
            return False
        with open(self._filler, "wb", buffering=0) as file, suppress(OSError):
            # A job may write at the same time, so it goes on until nothing fits.
            while free := max(0, os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize - left):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
        return True

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    @property
    def is_there(self) -> bool:
        """True unless the runs folder is away."""
        return os.path.ismount(self.folder) and not self._away.exists()

    def rename_away(self) -> None:
        self.runs.rename(self._away)

    def rename_back(self) -> None:
        """Bring the folder back; what was written in its place meanwhile is set aside."""
        if self.runs.exists():
            self._strays += 1
            self.runs.rename(self.folder / f"stray{self._strays}")
        self._away.rename(self.runs)

    def unmount(self) -> None:
        """Move the mount away, so that an empty folder is in its place, as of a file server that is gone."""
        subprocess.run(["mount", "--move", str(self.folder), str(self._elsewhere)], check=True)

    def mount_again(self) -> None:
        subprocess.run(["mount", "--move", str(self._elsewhere), str(self.folder)], check=True)
