"""Evaluate one share of a trained cell's test images; continue where an earlier attempt stopped."""

import time

import torch

from bench.build.networks import evaluation, trained
from bench.cell import Cell
from bench.jobs.lease import JobPaths, take_lease
from bench.jobs.progress import Progress
from bench.measure.provenance import start
from bench.records import End, Verdict, read_all
from crt import distributed
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each


def run_judge(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    """Evaluate images i = shard mod shards of each evaluation's images, divided among the ranks.

    ValueError where the cell is not trained.
    """
    part, parts = shard * distributed.world_size() + distributed.rank(), shards * distributed.world_size()
    folder = place.runs / cell.id
    with take_lease(folder / f"judge-{cell.evals_digest}-{part}of{parts}.jsonl", place) as lease:
        model = trained(cell, place.runs).eval()
        done = {(r.eval, r.index) for r in read_all(folder) if isinstance(r, Verdict)}
        dataset = cell.data
        images = Beton(ensure(dataset, "test", place.images(cell, "test")))
        lease.append(start((cell,), place.process, cell.seed))
        for spec in cell.evals:
            judge = evaluation(cell, spec, place.runs)
            share = spec.indices(len(images))[part::parts]
            left = [index for index in share if (spec.id, index) not in done]
            questions = ((image(images, index), int(images.labels[index]), (cell.seed, index)) for index in left)
            with Progress(f"{cell.id} {spec.label}", len(share), len(share) - len(left), "image") as progress:
                began = time.perf_counter()
                for index, judgement in zip(left, judge_each(judge, model, questions), strict=True):
                    verdict = Verdict(
                        eval=spec.id,
                        index=index,
                        label=int(images.labels[index]),
                        prediction=judgement.prediction,
                        radius=judgement.radius,
                        skipped=judgement.skipped,
                        seconds=time.perf_counter() - began,
                        details=judgement.details,
                    )
                    lease.append(verdict)
                    progress.step("")
                    began = time.perf_counter()
        lease.append(End(time=time.time()))


def image(images: Beton, index: int) -> torch.Tensor:
    """An image as a network's input: (C, H, W) in [0, 1], on this rank's device."""
    x = torch.from_numpy(images.images([index])).to(distributed.device())
    return x[0].permute(2, 0, 1).float().div(255).contiguous()
