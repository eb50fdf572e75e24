"""A campaign: seeded attempts of several kinds, recorded at once, continued where they stopped."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crt.disk import append_line
from tests.chaos.kind import Kind, Outcome


class Attempt(BaseModel):
    """One line of `outcomes.jsonl`: an attempt with its outcomes, or the smaller reproduction of one that broke."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign: int
    """Seed of the campaign."""
    kind: str
    seed: int
    """Seed of the attempt."""
    outcomes: tuple[Outcome, ...] = ()
    shrunk: str | None = None

    @property
    def broken(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.broken]


class Campaign:
    """The attempts of some kinds in one folder, where each kind has a folder of its own."""

    def __init__(self, folder: Path, seed: int, kinds: Sequence[Kind], count: int | None = None):
        self.folder, self.seed, self.kinds = folder, seed, kinds
        self.file = folder / "outcomes.jsonl"
        self.counts = {kind.name: count or kind.count for kind in kinds}
        self.attempts: list[Attempt] = []

    def resume(self) -> None:
        """Go on behind the last recorded attempt; ValueError where the folder holds a campaign of another seed."""
        self.attempts = list(self._read())

    def run(self, seconds: float, notify: Callable[[Kind, Attempt], None]) -> None:
        """Try until every kind has its count of outcomes or `seconds` are over; no attempt is cut short.

        The kind that is furthest behind is next. `notify` is called after each attempt.
        """
        end = time.monotonic() + seconds
        while (kind := self._next()) and time.monotonic() < end:
            number = sum(attempt.kind == kind.name for attempt in self.attempts)
            attempt = self.attempt(kind, attempt_seed(self.seed, kind.name, number))
            self._add(self.attempts, attempt)
            notify(kind, attempt)

    def attempt(self, kind: Kind, seed: int) -> Attempt:
        """Try the disturbances of one seed; an error of the attempt itself is an outcome that broke."""
        folder = self._prepared(kind)
        try:
            outcomes = kind.attempt(folder, seed)
        except Exception as error:
            outcomes = [Outcome("the attempt itself", f"{type(error).__name__}: {error}")]
        return Attempt(campaign=self.seed, kind=kind.name, seed=seed, outcomes=tuple(outcomes))

    def shrink(self, attempt: Attempt) -> str:
        """A smaller reproduction of an attempt that broke, found once and then remembered; empty for none."""
        kind = next(kind for kind in self.kinds if kind.name == attempt.kind)
        if kind.shrink is None:
            return ""
        for line in self._lines():
            if (line.kind, line.seed) == (attempt.kind, attempt.seed) and line.shrunk is not None:
                return line.shrunk
        try:
            shrunk = kind.shrink(self._prepared(kind), attempt.seed)
        except Exception as error:
            shrunk = f"not shrunk: {type(error).__name__}: {error}"
        self._add([], attempt.model_copy(update={"outcomes": (), "shrunk": shrunk}))
        return shrunk

    def tried(self, kind: Kind) -> int:
        """Number of outcomes of a kind so far."""
        return sum(len(attempt.outcomes) for attempt in self.attempts if attempt.kind == kind.name)

    @property
    def broken(self) -> list[Attempt]:
        """Attempts in which a promise was broken."""
        return [attempt for attempt in self.attempts if attempt.broken]

    def _next(self) -> Kind | None:
        behind = [kind for kind in self.kinds if self.tried(kind) < self.counts[kind.name]]
        return min(behind, key=lambda kind: self.tried(kind) / self.counts[kind.name], default=None)

    def _prepared(self, kind: Kind) -> Path:
        """The folder of a kind, which is prepared once."""
        folder, done = self.folder / kind.name, self.folder / f"{kind.name}.prepared"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            kind.prepare(folder)
            done.touch()
        return folder

    def _add(self, attempts: list[Attempt], attempt: Attempt) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        append_line(self.file, attempt.model_dump_json().encode() + b"\n")
        attempts.append(attempt)

    def _read(self) -> Iterable[Attempt]:
        """The attempts of these kinds that are recorded."""
        for line in self._lines():
            if line.campaign != self.seed:
                raise ValueError(
                    f"{self.file}: a campaign of seed {line.campaign}, not of {self.seed}"
                    f" (allowed: --seed {line.campaign}, or another --folder)"
                )
            if line.shrunk is None and line.kind in self.counts:
                yield line

    def _lines(self) -> Iterable[Attempt]:
        for number, line in enumerate(self.file.read_bytes().splitlines() if self.file.exists() else (), 1):
            try:
                yield Attempt.model_validate_json(line)
            except ValidationError:
                raise ValueError(f"{self.file}, line {number}: no attempt (allowed: another --folder)") from None


def attempt_seed(campaign: int, kind: str, number: int) -> int:
    """Seed of attempt `number` of a kind: the same in every campaign of this seed, whatever other kinds it has."""
    return int.from_bytes(hashlib.sha256(f"{campaign}/{kind}/{number}".encode()).digest()[:4])
