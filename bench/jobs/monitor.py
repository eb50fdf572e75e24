"""Evaluations of a network while it trains, outside the clock, on test images or on held-out training images."""

import copy
import time
from collections.abc import Iterator

import torch

from bench.build.networks import evaluation
from bench.build.validation import held_out
from bench.cell import Cell, Spec
from bench.jobs.evaluate import image
from bench.jobs.lease import JobPaths
from bench.records import MonitorPoint
from crt import distributed
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each
from crt.judgement import Judgement
from crt.training.loop import Training


class Monitor:
    """The cell's monitored evaluations and their images, divided among the ranks.

    It exists only for a cell that has a `monitor` block.
    """

    def __init__(self, cell: Cell, place: JobPaths):
        assert cell.monitor is not None
        self.cell, self.monitor = cell, cell.monitor
        split = "train" if cell.held_out else "test"
        self.images = Beton(ensure(cell.data, split, place.images(cell, split)))
        every = range(len(self.images))[: self.monitor.images]
        self.chosen = held_out(cell).tolist() if cell.held_out else every
        """Numbers of the images that are evaluated."""

    def due(self, epoch: int) -> bool:
        """True if the network is evaluated after this (0-based) epoch."""
        return (epoch + 1) % self.monitor.every == 0 or epoch + 1 == self.cell.recipe.epochs

    def curves(self, training: Training, epoch: int) -> Iterator[MonitorPoint]:
        """Yield a record for each evaluation, on every rank; the state of training does not change.

        Each rank has its own BatchNorm statistics; all evaluate with those of the first, which are saved in the end.
        """
        judged = copy.deepcopy(training.model).eval()
        judged.load_state_dict(training.weights | distributed.gather(_buffers(training))[0])
        labels = self.images.labels
        for spec in self.monitor.evals:
            began = time.perf_counter()
            share = self.chosen[distributed.rank() :: distributed.world_size()]
            questions = ((image(self.images, i), int(labels[i]), (self.cell.seed, i)) for i in share)
            mine = list(zip(share, judge_each(evaluation(self.cell, spec), judged, questions), strict=True))
            answers = [answer for ranks in distributed.gather(mine) for answer in ranks]
            # Every rank has waited for the others' answers.
            seconds = time.perf_counter() - began
            yield self._curve(spec, epoch, [(judgement, int(labels[i])) for i, judgement in answers], seconds)

    def _curve(self, spec: Spec, epoch: int, answers: list[tuple[Judgement, int]], seconds: float) -> MonitorPoint:
        radius = self.cell.threat.eps if spec.args.get("eps") is None else spec.args["eps"]
        right = [judgement for judgement, label in answers if judgement.prediction == label]
        keys = {key for judgement, _ in answers for key in judgement.details}
        details = {key: [j.details[key] for j, _ in answers if key in j.details] for key in sorted(keys)}
        return MonitorPoint(
            arm=self.cell.id,
            epoch=epoch,
            eval=spec.id,
            images=len(answers),
            right=len(right) / len(answers),
            standing=sum(judgement.radius >= radius for judgement in right) / len(answers),
            seconds=seconds,
            details={key: sum(values) / len(values) for key, values in details.items()},
        )


def _buffers(training: Training) -> dict[str, torch.Tensor]:
    weights = training.weights
    return {name: weights[name].cpu() for name, _ in training.model.named_buffers() if name in weights}
