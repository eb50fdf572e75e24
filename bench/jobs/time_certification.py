"""Time the certification engine against the plain procedure: the same images and noise, round by round."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.build.networks import network
from bench.cell import Cell, digest
from bench.jobs.evaluate import image
from bench.jobs.lease import JobPaths, attempt
from bench.manifest.manifest import Manifest
from bench.measure.bare_loop import bare_certify
from bench.measure.provenance import start
from bench.measure.timer import Timer
from bench.records import CertificationTiming, End
from crt import distributed
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each
from crt.evals.smoothing import Smoothing
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count
from crt.threat import Threat
from crt.training.precision import able, products

PLAIN = "plain procedure"
_EAGER = (
    {},
    {"channels_last": True},
    {"precision": "tf32"},
    {"precision": "bf16"},
    {"precision": "bf16", "channels_last": True},
)
_COMPILED = (
    {"compile": "default"},
    {"compile": "reduce-overhead"},
    {"precision": "bf16", "channels_last": True, "compile": "default"},
    {"precision": "bf16", "channels_last": True, "compile": "reduce-overhead"},
)


class Certification(BaseModel):
    """A network that some test images are certified by in every way, every draw of each, in `rounds` after a warm-up.

    Its weights are the first ones: what a draw takes does not depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    images: Count
    n: Count
    rounds: Count
    compiled: bool = False
    """Whether by the ways that are compiled, which takes long, or by the others; beside the plain procedure."""

    @property
    def id(self) -> str:
        words = [self.cell.comparison_group, self.images, self.n, self.rounds, *(["compiled"] if self.compiled else [])]
        return f"certification-{self.cell.arch}-{digest(words)}"

    def run(self, file: Path, place: JobPaths, seconds: float) -> None:
        """Certify, until it is done or no round can begin within `seconds`."""
        began = time.monotonic()
        with attempt(file, place) as claim:
            if file.exists():
                file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            claim.append(start([self.cell], place.process, seed=0))
            model = network(self.cell).eval().to(distributed.device())
            for record in self._timed(model, self._questions(place)):
                claim.append(record)
                if time.monotonic() - began > seconds:
                    return
            claim.append(End(time=time.time()))

    def _questions(self, place: JobPaths) -> list[Question]:
        test = Beton(ensure(DATASETS[self.cell.dataset], "test", place.data))
        return [(image(test, index), int(test.labels[index]), (0, index)) for index in range(self.images)]

    @property
    def ways(self) -> dict[str, Smoothing]:
        """Those that there are on this machine, by name."""
        make = partial(Smoothing, threat=Threat(sigma=self.cell.threat.sigma), n=self.n, skip_wrong=False)
        return {_name(given): make(**given) for given in (_COMPILED if self.compiled else _EAGER) if _can(given)}

    def _timed(self, model: Classifier, questions: list[Question]) -> Iterator[CertificationTiming]:
        # In passes as large as the engine's own, so that only what it does otherwise is compared.
        plain = Smoothing(threat=Threat(sigma=self.cell.threat.sigma), n=self.n, skip_wrong=False)
        found = {PLAIN: _plainly(plain, model, cycle(questions), "fp32")}
        if not self.compiled and _can({"precision": "tf32"}):
            # What a GPU does to convolutions that nobody asked it to be exact in.
            found[f"{PLAIN}, tf32"] = _plainly(plain, model, cycle(questions), "tf32")
        # What is done once a network, folding and compiling, is done in the warm-up.
        found |= {name: judge_each(way, model, cycle(questions)) for name, way in self.ways.items()}
        names = list(found)
        for turn in range(1 + self.rounds):
            # Each way takes each place in turn.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with Timer(alone=True) as timer:
                    answers = list(islice(found[name], self.images))
                drawn = plain.n0 * self.images + sum(int(one.details["drawn"]) for one in answers)
                yield CertificationTiming(arm=name, round=turn, images=self.images, draws=drawn, seconds=timer.seconds)


def _plainly(plain: Smoothing, model: Classifier, questions: Iterable[Question], precision: str) -> Iterator[Judgement]:
    for x, _, seed in questions:
        with products(precision, trial=False):
            found = bare_certify(plain, model, x, seed)
        yield found


def _name(given: dict[str, Any]) -> str:
    words = {"channels_last": "channels_last", "compile": "compile {}"}
    return ", ".join(["engine", *(words.get(key, "{}").format(value) for key, value in given.items())])


def _can(given: dict[str, Any]) -> bool:
    try:
        able("", given.get("precision", "fp32"), given.get("compile", False), distributed.device(), "fp32, bf16")
    except ValueError:
        return False
    return True


def certifications(manifest: Manifest) -> list[Certification]:
    """Two for each of the manifest's networks, the compiled ones last, where it asks for certification to be timed."""
    asked = manifest.timing and manifest.timing.certify
    firsts = (
        {cell.comparison_group: cell for cell in reversed(manifest.cells) if cell.threat.sigma > 0} if asked else {}
    )
    shape = {"rounds": manifest.timing.rounds, **asked.model_dump()} if asked else {}
    cells = list(reversed(firsts.values()))
    return [Certification(cell=cell, compiled=late, **shape) for late in (False, True) for cell in cells]
