"""Time the certification engine against the plain procedure: the same images and noise, round by round."""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench.attempt import Place, attempt
from bench.bare import bare_certify
from bench.cells import Cell, digest
from bench.environment import start
from bench.judge import image
from bench.networks import network
from bench.records import Drawn, End
from bench.tables import Manifest
from bench.timer import Timer
from crt import dist
from crt.classifier import Classifier
from crt.data import DATASETS
from crt.data.beton import Beton, ensure
from crt.evals.smoothing import Smoothing
from crt.quantity import Count
from crt.threat import Threat

PLAIN = "plain procedure"
_ENGINE = {"engine": {}, "engine, channels_last": {"channels_last": True}, "engine, bf16": {"precision": "bf16"}}
_BATCH = 1000


class Certification(BaseModel):
    """A network that some test images are certified by in every way, every draw of each, in `rounds` after a warm-up.

    Its weights are the first ones: what a draw takes does not depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    images: Count
    n: Count
    rounds: Count

    @property
    def id(self) -> str:
        words = [self.cell.kin, self.images, self.n, self.rounds]
        return f"certification-{self.cell.arch}-{digest(words)}"

    def run(self, file: Path, place: Place, seconds: float) -> None:
        """Certify, until it is done or no round can begin within `seconds`."""
        began = time.monotonic()
        with attempt(file, place) as claim:
            if file.exists():
                file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            claim.append(start([self.cell], place.process, seed=0, trains=False))
            model = network(self.cell).eval().to(dist.device())
            for record in self._timed(model, self._questions(place)):
                claim.append(record)
                if time.monotonic() - began > seconds:
                    return
            claim.append(End(time=time.time()))

    def _questions(self, place: Place) -> list[tuple[Tensor, int, tuple[int, int]]]:
        test = Beton(ensure(DATASETS[self.cell.dataset], "test", place.data))
        return [(image(test, index), int(test.labels[index]), (0, index)) for index in range(self.images)]

    def _timed(self, model: Classifier, questions: list) -> Iterator[Drawn]:
        threat = Threat(sigma=self.cell.threat.sigma)
        make = lambda **given: Smoothing(threat=threat, n=self.n, skip_wrong=False, **given)  # noqa: E731
        plain = make(batch=_BATCH)
        ways = {PLAIN: lambda: [bare_certify(plain, model, x, seed) for x, _, seed in questions]}
        for name, engine in ((name, make(**given)) for name, given in _ENGINE.items()):
            ways[name] = lambda engine=engine: list(engine.judge_many(model, questions))
        names = list(ways)
        for turn in range(1 + self.rounds):
            # Each way takes each place in turn.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with Timer(alone=True) as timer:
                    found = ways[name]()
                drawn = plain.n0 * self.images + sum(int(one.details["drawn"]) for one in found)
                yield Drawn(arm=name, round=turn, images=self.images, draws=drawn, seconds=timer.seconds)


def certifications(manifest: Manifest) -> list[Certification]:
    """One for each of the manifest's networks, where it asks for certification to be timed."""
    asked = manifest.timing and manifest.timing.certify
    firsts = {cell.kin: cell for cell in reversed(manifest.cells) if cell.threat.sigma > 0} if asked else {}
    shape = {"rounds": manifest.timing.rounds, **asked.model_dump()} if asked else {}
    return [Certification(cell=cell, **shape) for cell in reversed(firsts.values())]
