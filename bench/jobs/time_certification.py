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
_EAGER: tuple[dict[str, Any], ...] = (
    {},
    {"channels_last": True},
    {"precision": "tf32"},
    {"precision": "bf16"},
    {"precision": "bf16", "channels_last": True},
)
_COMPILED: tuple[dict[str, Any], ...] = (
    {"compile": "default"},
    {"compile": "reduce-overhead"},
    {"precision": "bf16", "channels_last": True, "compile": "default"},
    {"precision": "bf16", "channels_last": True, "compile": "reduce-overhead"},
)


class Certification(BaseModel):
    """Timing of a network's certification of some test images, in `rounds` after a warm-up, with every setting.

    All draws of each image are made. The network is untrained: the time of a draw does not depend on the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    images: Count
    n: Count
    rounds: Count
    compiled: bool = False
    """True for the compiled settings, whose warm-up takes long; False for the others. Both time the plain procedure."""

    @property
    def id(self) -> str:
        words = [self.cell.comparison_group, self.images, self.n, self.rounds, *(["compiled"] if self.compiled else [])]
        return f"certification-{self.cell.arch}-{digest(words)}"

    def run(self, file: Path, place: JobPaths, seconds: float) -> None:
        """Certify until all rounds are done or no further round can begin within `seconds`."""
        began = time.monotonic()
        with attempt(file, place) as lease:
            if file.exists():
                file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            lease.append(start([self.cell], place.process, seed=0))
            model = network(self.cell).eval().to(distributed.device())
            for record in self._timed(model, self._questions(place)):
                lease.append(record)
                if time.monotonic() - began > seconds:
                    return
            lease.append(End(time=time.time()))

    def _questions(self, place: JobPaths) -> list[Question]:
        test = Beton(ensure(DATASETS[self.cell.dataset], "test", place.data))
        return [(image(test, index), int(test.labels[index]), (0, index)) for index in range(self.images)]

    @property
    def ways(self) -> dict[str, Smoothing]:
        """Smoothing with each setting that this machine supports, by name."""
        make = partial(Smoothing, threat=Threat(sigma=self.cell.threat.sigma), n=self.n, skip_wrong=False)
        settings = _COMPILED if self.compiled else _EAGER
        return {_name(setting): make(**setting) for setting in settings if _supported(setting)}

    def _timed(self, model: Classifier, questions: list[Question]) -> Iterator[CertificationTiming]:
        # The plain procedure's batches are as large as the engine's, so that only their methods differ.
        plain = Smoothing(threat=Threat(sigma=self.cell.threat.sigma), n=self.n, skip_wrong=False)
        judgements = {PLAIN: _plainly(plain, model, cycle(questions), "fp32")}
        if not self.compiled and _supported({"precision": "tf32"}):
            # By default, a GPU computes convolutions in TF32.
            judgements[f"{PLAIN}, tf32"] = _plainly(plain, model, cycle(questions), "tf32")
        # Folding and compiling happen once a network, so the warm-up covers them.
        judgements |= {name: judge_each(way, model, cycle(questions)) for name, way in self.ways.items()}
        names = list(judgements)
        for turn in range(1 + self.rounds):
            # The order rotates, so that each setting takes each position.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with Timer(alone=True) as timer:
                    answers = list(islice(judgements[name], self.images))
                drawn = plain.n0 * self.images + sum(int(answer.details["drawn"]) for answer in answers)
                yield CertificationTiming(arm=name, round=turn, images=self.images, draws=drawn, seconds=timer.seconds)


def _plainly(plain: Smoothing, model: Classifier, questions: Iterable[Question], precision: str) -> Iterator[Judgement]:
    for x, _, seed in questions:
        with products(precision, trial=False):
            judgement = bare_certify(plain, model, x, seed)
        yield judgement


def _name(setting: dict[str, Any]) -> str:
    words = {"channels_last": "channels_last", "compile": "compile {}"}
    return ", ".join(["engine", *(words.get(key, "{}").format(value) for key, value in setting.items())])


def _supported(setting: dict[str, Any]) -> bool:
    try:
        able("", setting.get("precision", "fp32"), setting.get("compile", False), distributed.device(), "fp32, bf16")
    except ValueError:
        return False
    return True


def certifications(manifest: Manifest) -> list[Certification]:
    """Two certifications for each network with a noise level, the compiled ones last; none if none are to be timed."""
    timing = manifest.timing
    if timing is None or not timing.certify:
        return []
    firsts = {cell.comparison_group: cell for cell in reversed(manifest.cells) if cell.threat.sigma > 0}
    shape = {"rounds": timing.rounds, **timing.certify.model_dump()}
    cells = list(reversed(firsts.values()))
    return [Certification(cell=cell, compiled=late, **shape) for late in (False, True) for cell in cells]
