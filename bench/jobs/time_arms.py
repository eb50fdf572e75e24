"""Time the arms of one study side by side in one process."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import torch

from bench.build.cost import training_cost
from bench.build.networks import batches, method, network, restatement
from bench.cell import Cell
from bench.jobs.fastest import choose, recipe_with
from bench.jobs.lease import JobPaths, take_lease, write
from bench.jobs.progress import Progress
from bench.jobs.task import ended
from bench.manifest.manifest import Study
from bench.measure.gpu_telemetry import Watch
from bench.measure.phases import Phases
from bench.measure.provenance import NOTHING_COUNTED, machines, start
from bench.measure.roofline import roofline
from bench.measure.telemetry import of_all_ranks
from bench.measure.timer import Timer
from bench.records import Cost, End, Epoch, RankPhases, read
from bench.records import Phases as PhasesRecord
from bench.results.precision import Precision, precision
from crt import distributed
from crt.data.batches import Loader
from crt.training.cuda_graph import EAGER
from crt.training.loop import Batches, Training
from crt.training.precision import LOW, arithmetic
from crt.training.recipe import Recipe


def run_study(
    study: Study,
    run: int,
    place: JobPaths,
    seconds: float = math.inf,
    left_out: Collection[str] = (),
    ratios_only: bool = False,
) -> None:
    """Time every arm in this process: one warm-up epoch each, then rounds in random balanced order.

    A run that is complete is kept. A run after the first ones of a study with a stated precision ends at once if the
    precision needs no such run. In the end, one epoch of each arm is split into its phases. Arms whose ids are in
    `left_out` are not timed. With `ratios_only`, neither operations and the device's rates nor phases are measured,
    which no table shows then. After half of `seconds` no further arm is warmed up, and after all of them no second
    round begins: the result is then incomplete.
    """
    began = time.monotonic()
    folder = place.runs / study.id / f"run{run}"
    file = folder / ("time.jsonl" if distributed.rank() == 0 else f"time-rank{distributed.rank()}.jsonl")
    arms = [arm for arm in study.arms if arm.id not in left_out]
    with take_lease(file, place) as lease:
        # A cluster may start a job again that had just ended. Rank 0 decides, since other nodes may see older files.
        if distributed.gather(ended(read(file)))[0] or (run >= study.timing.runs and not _is_needed(study, run, place)):
            return
        ranks = machines()
        switches = {arm.id: choose(arm, place.runs, ranks[0]) for arm in arms}
        if distributed.rank() == 0:
            with lease.held():
                write(place.runs / study.id / "study.json", study.model_dump_json(indent=1).encode())
                # The rounds of a study are one experiment: records of an interrupted attempt are set aside.
                if file.exists():
                    file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            cost = NOTHING_COUNTED if ratios_only else _cost(arms)
            lease.append(start(arms, place.process, run, cost, ranks, switches))
        distributed.barrier()
        timed = [(arm, recipe_with(arm, switches[arm.id])) for arm in arms]
        loaders = _loaders(arms, study.timing.images, place)
        spent = lambda: distributed.slowest(time.monotonic() - began) / seconds  # noqa: E731
        of = f"{study.timing.runs}" if study.timing.until is None else f"at most {study.timing.most_runs}"
        title, steps = f"{study.id} run {run + 1}/{of}", len(arms) * (2 - ratios_only + study.timing.rounds)
        with Progress(title, steps, 0, "epoch") as progress:
            for record, note in _timed(timed, study.timing.rounds, run, loaders, spent, not ratios_only):
                if distributed.rank() == 0:
                    lease.append(record)
                progress.step(note)
        for loaded in loaders.values():
            loaded.close()
        if distributed.rank() == 0 and progress.done == steps:
            lease.append(End(time=time.time()))
            if study.timing.until:
                print(_progress(study, precision(study, place.runs)), flush=True)


def _cost(arms: Sequence[Cell]) -> Cost:
    """Counted cost of the arms, and the device's rates."""
    return training_cost(arms).model_copy(update={"ceilings": roofline(arm.recipe for arm in arms)})


def _is_needed(study: Study, run: int, place: JobPaths) -> bool:
    """True if the precision of the study needs this run; rank 0 decides, since other nodes may see older files."""
    found = precision(study, place.runs) if distributed.rank() == 0 else None
    decided = distributed.gather(found)[0]
    if distributed.rank() == 0 and not (decided.known and run < decided.needed):
        print(f"{study.id} run {run + 1}: not timed. {_progress(study, decided)}", flush=True)
    return decided.known and run < decided.needed


def _progress(study: Study, found: Precision) -> str:
    """The precision of a study so far, in words."""
    first, until = study.timing.runs, study.timing.until
    if not found.known:
        return f"{found.runs} of the first {first} runs, which decide how many follow, are complete."
    limit = " or more (at_most)" if found.needed == study.timing.most_runs else ""
    return (
        f"Ratios are known to ±{100 * found.reached:.2g} % after {found.runs} runs;"
        f" ±{100 * (until or 0):g} % needs {found.needed} runs{limit}."
    )


def _loaders(arms: Sequence[Cell], images: int | None, place: JobPaths) -> dict[int, Loader]:
    """One loader for each batch size, shared by the arms of that size."""
    sizes = {arm.recipe.batch_size: arm for arm in arms}
    return {size: batches(arm, place.images(arm, "train"), images) for size, arm in sizes.items()}


def _timed(
    cells: Sequence[tuple[Cell, Recipe]],
    rounds: int,
    seed: int,
    loaders: dict[int, Loader],
    spent: Callable[[], float],
    phases: bool,
) -> Iterator[tuple[Epoch | PhasesRecord, str]]:
    """Yield each arm's epochs and, with `phases`, its phases, each with a note, until the time `spent` reaches 1."""
    arms: list[Arm] = []
    for cell, recipe in cells:
        # Warming up more arms would leave too little time for the rounds of the others.
        if arms and spent() > 0.5:
            break
        arms.append(Arm(cell, recipe))
        yield _epoch(arms[-1], 0, len(arms) - 1, loaders[cell.recipe.batch_size])
    for number, (turn, arm) in enumerate(_turns(arms, rounds, seed), len(arms)):
        # The first round is always timed: without it the warm-up would have been in vain.
        if turn == 1 or spent() < 1:
            yield _epoch(arm, turn, number, loaders[arm.cell.recipe.batch_size])
    for arm in arms if phases else ():
        if spent() < 1:
            yield _phases(arm, rounds + 1, loaders[arm.cell.recipe.batch_size]), f"{arm.cell.method.label} phases"


def _epoch(arm: "Arm", turn: int, number: int, loaded: Loader) -> tuple[Epoch, str]:
    """Time one epoch of one arm; `number` seeds the order of the images, `turn` is the round (0: warm-up)."""
    loaded.epoch = number
    times = 1 if turn else arm.warmups(loaded)
    with Watch() as watch, Timer() as timer:
        for _ in range(times):
            loss = arm.train(loaded, turn)
    record = Epoch(
        arm=arm.cell.id,
        round=turn,
        epoch=turn,
        seconds=timer.seconds,
        warmup=turn == 0,
        images=times * loaded.images * distributed.world_size(),
        lr=arm.cell.recipe.lr_at(arm.first + turn),
        loss=distributed.mean(loss),
        **of_all_ranks(watch, timer, arm.training.recipe.cuda_graph),
    )
    return record, f"{arm.cell.method.label} {record.images / record.seconds:,.0f} images/s"


def _phases(arm: "Arm", turn: int, loaded: Loader) -> PhasesRecord:
    """Split one epoch of an arm into phases.

    It must be the arm's last: the hook that times the all-reduce cannot be removed.
    """
    phases = Phases(loaded, arm.training.objective)
    distributed.barrier()
    arm.train(phases, turn)
    images = loaded.images * distributed.world_size()
    own, *others = distributed.gather(RankPhases(host=phases.host, device=phases.device))
    return PhasesRecord(arm=arm.cell.id, images=images, host=own.host, device=own.device, other_ranks=tuple(others))


class Arm:
    """A cell set up for timing; its teacher is untrained, since weights do not change the time."""

    def __init__(self, cell: Cell, recipe: Recipe):
        self.cell = cell
        self.model = network(cell).to(distributed.device())
        teacher = network(cell.teacher).to(distributed.device()) if cell.teacher else None
        bound = method(cell, teacher)
        self.training = Training(bound, self.model, recipe)
        self.plain = restatement(cell, bound, self.model, self.training.optimizer) if cell.loop == "bare" else None
        self.first = math.ceil(bound.steady_from_epoch)

    def warmups(self, loaded: Loader) -> int:
        """Number of warm-up epochs, so that no timed step compiles, allocates or records a graph for the first time."""
        recorded = 1 + EAGER if self.training.recipe.cuda_graph else 1
        return math.ceil(recorded / max(1, loaded.images // loaded.batch_size))

    def train(self, batches: Batches, turn: int) -> torch.Tensor:
        """Train one epoch from those whose steps have their full cost; its loss."""
        if self.plain is not None:
            low, device = LOW.get(self.training.recipe.precision), distributed.device().type
            with arithmetic(self.training.recipe), torch.autocast(device, low, enabled=low is not None):
                return self.plain.epoch(batches, self.first + turn)
        return self.training.epoch(batches, self.first + turn)


def _turns(arms: Sequence[Arm], rounds: int, seed: int) -> Iterator[tuple[int, Arm]]:
    """Yield rounds 1 to `rounds` of every arm; in each len(arms) rounds, each arm takes each position once."""
    order = torch.Generator().manual_seed(seed)
    for turn in range(rounds):
        shift = turn % len(arms)
        if shift == 0:
            places = torch.randperm(len(arms), generator=order).tolist()
        for place in places[shift:] + places[:shift]:
            yield turn + 1, arms[place]
