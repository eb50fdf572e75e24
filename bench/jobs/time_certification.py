"""Time the certification engine against the plain procedure: the same images and noise, round by round."""

import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.build.networks import network
from bench.jobs.evaluate import image
from bench.jobs.lease import JobPaths, take_lease
from bench.jobs.task import ended
from bench.manifest.manifest import Certification
from bench.measure.bare_loop import bare_certify
from bench.measure.provenance import start
from bench.measure.timer import Timer
from bench.records import PLAIN, CertificationTiming, End, read
from crt import distributed
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each
from crt.evals.smoothing import Smoothing
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.threat import Threat
from crt.training.precision import able, products

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


def run_certification(certification: Certification, file: Path, place: JobPaths, seconds: float) -> None:
    """Certify until all rounds are done or no further round can begin within `seconds`."""
    began = time.monotonic()
    cell = certification.cell
    with take_lease(file, place) as lease:
        if ended(read(file)):
            return  # a cluster may start a job again that had just ended
        if file.exists():
            file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
        lease.append(start([cell], place.process, seed=0))
        model = network(cell).eval().to(distributed.device())
        test = Beton(ensure(cell.data, "test", place.data))
        questions = [(image(test, i), int(test.labels[i]), (0, i)) for i in range(certification.images)]
        for record in _timed(certification, model, questions):
            lease.append(record)
            if time.monotonic() - began > seconds:
                return
        lease.append(End(time=time.time()))


def engines(certification: Certification) -> dict[str, Smoothing]:
    """Smoothing with each setting that this machine supports, by name."""
    settings = _COMPILED if certification.compiled else _EAGER
    return {_name(setting): _smoothing(certification, **setting) for setting in settings if _supported(setting)}


def _smoothing(certification: Certification, **settings: Any) -> Smoothing:
    threat = Threat(sigma=certification.cell.threat.sigma)
    return Smoothing(threat=threat, n=certification.n, skip_wrong=False, **settings)


def _timed(certification: Certification, model: Classifier, questions: list[Question]) -> Iterator[CertificationTiming]:
    # The plain procedure's batches are as large as the engine's, so that only their methods differ.
    plain = _smoothing(certification)
    judgements = {PLAIN: _plainly(plain, model, cycle(questions), "fp32")}
    if not certification.compiled and _supported({"precision": "tf32"}):
        # By default, a GPU computes convolutions in TF32.
        judgements[f"{PLAIN}, tf32"] = _plainly(plain, model, cycle(questions), "tf32")
    # Folding and compiling happen once a network, so the warm-up covers them.
    judgements |= {name: judge_each(engine, model, cycle(questions)) for name, engine in engines(certification).items()}
    names, images = list(judgements), certification.images
    for turn in range(1 + certification.rounds):
        # The order rotates, so that each setting takes each position.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with Timer(alone=True) as timer:
                answers = list(islice(judgements[name], images))
            drawn = plain.n0 * images + sum(int(answer.details["drawn"]) for answer in answers)
            yield CertificationTiming(arm=name, round=turn, images=images, draws=drawn, seconds=timer.seconds)


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
