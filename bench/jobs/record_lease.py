"""The right to write a records file, which one attempt holds at a time."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.jobs.claim import Claim, Sight, last_change, look, new_claim, remove
from bench.records import Record, append
from crt.disk import naming
from crt.text import printable

EXPIRY = 60.0
"""Seconds after which a claim that is not renewed expires."""
_POLL = 0.1
"""Seconds between two looks at a file that is watched."""


class SupersededError(Exception):
    """Raised when a later attempt at the same job has taken over its records."""


class RecordLease:
    """The right to write a records file, held by one attempt.

    The holder's claim, a file beside the records, is renewed by a thread. An attempt takes the lease if there is no
    claim, if its process has ended, if it is of an earlier attempt of the same Slurm job, or if it has expired: it was
    not renewed for `expiry` seconds by the file server's clock, nor while this attempt watched it. Else ValueError.

    Claims are installed under a guard, a file that only one process can create, and by renaming, so that of several
    attempts one takes the lease. Every write happens under the guard as well and looks at the claim first: an attempt
    that lost the lease (Slurm gave its node up, or it was stopped and its claim expired) writes nothing more. All of
    this works on a network file system without locks, and needs no common clock of the hosts.
    """

    def __init__(self, file: Path, expiry: float = EXPIRY):
        self.file, self._expiry = file, expiry
        self._path = file.with_suffix(".claim")
        self._guard = self._path.with_name(f"{self._path.name}.guard")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._mine = new_claim()
        self._content = self._mine.model_dump_json().encode()
        self._released = threading.Event()
        # The thread renews the file that was installed: never the one that a later attempt puts in its place.
        threading.Thread(target=_renew, args=(self._take(), expiry / 6, self._released), daemon=True).start()

    def __enter__(self) -> "RecordLease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other attempts out while the block writes; SupersededError where a later attempt has taken over.

        ValueError where the claim was removed or changed by hand.
        """
        with self._guarded():
            found = look(self._path)
            if found.content != self._content:
                if found.claim is None:
                    raise ValueError(f"{self._path}: no longer the claim of this attempt, which ends (submit again)")
                raise SupersededError(f"{self.file}: a later attempt has taken over")
            yield

    def append(self, record: Record) -> None:
        with self.held():
            append(self.file, record)

    def release(self) -> None:
        """Remove the claim if it is still this attempt's."""
        self._released.set()
        with suppress(SupersededError, ValueError, OSError), self.held():
            self._path.unlink()

    def _take(self) -> int:
        """Install the claim; its open file."""
        while True:
            found = look(self._path)
            if not self._is_free(found):
                continue
            with self._guarded() as claim:
                # Another attempt may have taken the lease in the meantime, or the holder may have renewed it.
                if look(self._path) == found:
                    if self._path.is_dir():
                        remove(self._path)
                    self._guard.replace(self._path)
                    return os.dup(claim)

    def _is_free(self, found: Sight) -> bool:
        """True if the claim may be replaced, False if the file has changed; ValueError where its process is alive."""
        claim = found.claim
        if not found.exists or (claim and claim.yields_to(self._mine)):
            return True
        alive = claim.is_alive(self._mine) if claim else None
        if alive is False:
            return True
        age = self._age(found)
        if claim and alive and (not claim.is_renewed or age < self._expiry):
            raise self._busy(claim)
        # The file server may have stood still, and the holder with it: an old claim is watched for a while, too.
        patience = max(self._expiry - age, self._expiry / 3)
        print(f"{self._path}: {_holder(claim)}; watched for {patience:.0f} s, to see if it is renewed", flush=True)
        if not self._changes(patience, self._path, self.file):
            return True
        # A renewal shows that the holder is alive; a file without a claim may hold one now.
        if claim and look(self._path).content == found.content:
            raise self._busy(claim)
        return False

    def _busy(self, claim: Claim) -> ValueError:
        expiry = f"; a claim that is not renewed expires after {self._expiry:.0f} s" if claim.is_renewed else ""
        return ValueError(f"{self.file}: {_holder(claim)} is at work on it (wait until it ends{expiry})")

    def _age(self, found: Sight) -> float:
        """Seconds since the claim was renewed or a record written, by the file server's clock; at least 0."""
        with tempfile.TemporaryFile(dir=self._path.parent) as probe:
            now = os.fstat(probe.fileno()).st_mtime_ns
        return max(0.0, (now - max(found.changed, last_change(self.file))) / 1e9)

    def _changes(self, patience: float, *files: Path) -> bool:
        """True as soon as one of the files changes; False if none does for `patience` seconds."""
        signs = lambda: [look(file) for file in files]  # noqa: E731
        before, end = signs(), time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(min(_POLL, self._expiry / 20))
            if signs() != before:
                return True
        return False

    @contextmanager
    def _guarded(self) -> Iterator[int]:
        """Hold the guard, a file with this attempt's claim, which is yielded open; first wait for its holder."""
        while (guard := _create(self._guard)) is None:
            self._await_guard()
        try:
            with naming(self._guard):
                os.write(guard, self._content)
            yield guard
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(guard), self._guard.stat()):
                    self._guard.unlink()
            os.close(guard)

    def _await_guard(self) -> None:
        """Wait until the guard changes or is gone, and remove one whose process has ended or does not renew a claim."""
        found = look(self._guard)
        if not found.exists:
            return
        # The holder of the lease renews its claim while it writes; another process has the guard for a moment only.
        signs = (self._guard, self._path) if found.content == look(self._path).content else (self._guard,)
        ended = found.claim is not None and found.claim.is_alive(self._mine) is False
        if (ended or not self._changes(self._expiry, *signs)) and look(self._guard) == found:
            remove(self._guard)


def _renew(claim: int, interval: float, released: threading.Event) -> None:
    """Renew an open claim every `interval` seconds until it is released, and close it."""
    while not released.wait(interval):
        # An error passes, or the claim expires and the next write tells so.
        with suppress(OSError):
            os.utime(claim)
    os.close(claim)


def _holder(claim: Claim | None) -> str:
    return f"process {claim.pid} on {printable(claim.host)}" if claim else "no claim that can be read"


def _create(guard: Path) -> int | None:
    """Create the guard, open; None where there is one."""
    try:
        return os.open(guard, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
