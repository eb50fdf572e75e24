"""Judge one share of a trained cell's test images; go on where an earlier attempt stopped."""

import time

import torch

from bench.build.networks import evaluation, trained
from bench.cell import Cell
from bench.jobs.lease import JobPaths, attempt
from bench.jobs.progress import Progress
from bench.measure.provenance import start
from bench.records import End, Verdict, read_all
from crt import distributed
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each


def run_judge(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    """Judge images i = shard mod shards of each evaluation's choice, spread over the ranks; ValueError if untrained."""
    part, parts = shard * distributed.world_size() + distributed.rank(), shards * distributed.world_size()
    folder = place.runs / cell.id
    with attempt(folder / f"judge-{cell.evals_digest}-{part}of{parts}.jsonl", place) as claim:
        model = trained(cell, place.runs).eval()
        done = {(r.eval, r.index) for r in read_all(folder) if isinstance(r, Verdict)}
        dataset = DATASETS[cell.dataset]
        images = Beton(ensure(dataset, "test", place.images(cell, "test")))
        claim.append(start((cell,), place.process, cell.seed))
        for spec in cell.evals:
            judge = evaluation(cell, spec)
            share = spec.indices(len(images))[part::parts]
            left = [index for index in share if (spec.id, index) not in done]
            questions = ((image(images, index), int(images.labels[index]), (cell.seed, index)) for index in left)
            with Progress(f"{cell.id} {spec.label}", len(share), len(share) - len(left), "image") as progress:
                began = time.perf_counter()
                for index, found in zip(left, judge_each(judge, model, questions), strict=True):
                    verdict = Verdict(
                        eval=spec.id,
                        index=index,
                        label=int(images.labels[index]),
                        prediction=found.prediction,
                        radius=found.radius,
                        skipped=found.skipped,
                        seconds=time.perf_counter() - began,
                        details=found.details,
                    )
                    claim.append(verdict)
                    progress.step("")
                    began = time.perf_counter()
        claim.append(End(time=time.time()))


def image(images: Beton, index: int) -> torch.Tensor:
    """An image as networks take it: (C, H, W) in [0, 1], on this rank's device."""
    x = torch.from_numpy(images.images([index])).to(distributed.device())
    return x[0].permute(2, 0, 1).float().div(255).contiguous()
