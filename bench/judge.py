"""Judge one share of a trained cell's test images; go on where an earlier attempt stopped."""

import time

import torch

from bench.attempt import Place, attempt
from bench.cells import Cell
from bench.environment import start
from bench.networks import trained
from bench.progress import Progress
from bench.records import End, Verdict, read_all
from crt import dist
from crt.data import DATASETS
from crt.data.beton import Beton, ensure
from crt.plugins import find


def run_judge(cell: Cell, shard: int, shards: int, place: Place) -> None:
    """Judge images i = shard mod shards of each evaluation's choice, spread over the ranks; ValueError if untrained."""
    part, parts = shard * dist.world_size() + dist.rank(), shards * dist.world_size()
    folder = place.runs / cell.id
    with attempt(folder / f"judge-{cell.questions}-{part}of{parts}.jsonl", place) as claim:
        model = trained(cell, place.runs).eval()
        done = {(r.eval, r.index) for r in read_all(folder) if isinstance(r, Verdict)}
        dataset = DATASETS[cell.dataset]
        images = Beton(ensure(dataset, "test", place.images(cell, "test")))
        claim.append(start((cell,), place.process, cell.seed, trains=False))
        for spec in cell.evals:
            judge = find("crt.evals", spec.name)(threat=cell.threat, **spec.args)
            share = spec.indices(len(images))[part::parts]
            left = [index for index in share if (spec.id, index) not in done]
            with Progress(f"{cell.id} {spec.label}", len(share), len(share) - len(left), "image") as progress:
                for index in left:
                    x = torch.from_numpy(images.images([index])).to(dist.device())
                    x = x[0].permute(2, 0, 1).float().div(255).contiguous()
                    label, began = int(images.labels[index]), time.perf_counter()
                    found = judge.judge(model, x, label, (cell.seed, index))
                    verdict = Verdict(
                        eval=spec.id,
                        index=index,
                        label=label,
                        prediction=found.prediction,
                        radius=found.radius,
                        seconds=time.perf_counter() - began,
                        details=found.details,
                    )
                    claim.append(verdict)
                    progress.step("")
        claim.append(End(time=time.time()))
