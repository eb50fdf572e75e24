"""Peak memory of training steps, each arm in a process of its own: `python -m bench.jobs.step_memory` is that process.

Peaks of one process would hide each other, since a process keeps memory that it freed.
"""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

from bench.cell import Cell
from bench.jobs.fastest import choose, recipe_with
from bench.jobs.lease import JobPaths, take_lease
from bench.jobs.time_arms import Arm
from bench.manifest.manifest import Study
from bench.measure.provenance import machines, start
from bench.records import StepMemory, read
from crt import distributed
from crt.text import printable

_STEPS = 2
"""Loaded batches: the optimizer has all of its state from the second on."""
_RESET = "5"
"""Word that lets Linux forget the peak of a process's memory."""


def measure_memory(study: Study, place: JobPaths) -> None:
    """Record the peak memory of every arm that has no such record yet."""
    file = place.runs / study.id / "memory.jsonl"
    done = {record.arm for record in read(file) if isinstance(record, StepMemory)}
    arms = [arm for arm in study.arms if arm.id not in done]
    if not arms:
        return
    with take_lease(file, place) as lease:
        switches = {arm.id: choose(arm, place.runs, machines()[0]) for arm in arms}
        lease.append(start(study.arms, place.process, 0, switches=switches))
        for arm in arms:
            trained = arm.model_copy(update={"recipe": recipe_with(arm, switches[arm.id])})
            lease.append(StepMemory(arm=arm.id, memory=_in_a_process(trained)))


def _in_a_process(arm: Cell) -> float:
    """Peak memory of an arm in MB; RuntimeError with the last line of a process that fails."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "bench.jobs.step_memory"],
        input=arm.model_dump_json(),
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"memory of {arm.id}: {printable(lines[-1])}")
    return float(done.stdout.split()[-1])


def peak(cell: Cell) -> float:
    """Peak memory in MB of training on random images in this process, which does nothing else.

    On a GPU, all memory that tensors have; on the CPU, the resident memory beyond that of the libraries, which includes
    the network. The libraries load what they need in steps on a few images before.
    """
    size = cell.recipe.batch_size
    _train(cell, min(size, 2 * (size // cell.per_step)))
    gc.collect()
    if distributed.device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        _train(cell, size)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20
    # What the few images used goes back to the system; otherwise the steps below would find it there.
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text(_RESET, encoding="utf-8")
    _train(cell, size)
    return (_resident("VmHWM") - before) / 2**10


def _train(cell: Cell, images: int) -> None:
    device = distributed.device()
    x = torch.rand((images, *cell.data.shape), device=device)
    y, index = torch.zeros(images, dtype=torch.long, device=device), torch.arange(images, device=device)
    Arm(cell, cell.recipe).train([(x, y, index)] * _STEPS, 0)


def _resident(key: str) -> int:
    """Resident memory of this process in kB: `VmRSS` now, `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith(f"{key}:")).split()[1])


if __name__ == "__main__":
    print(peak(Cell.model_validate_json(sys.stdin.read())))
