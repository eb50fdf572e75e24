"""Checkpoints of a cell's training: the last two are kept, and only a whole one of this cell is resumed from."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from bench.build.networks import untrained
from bench.build.weights import load, mismatch, save, with_nan
from bench.cell import Cell
from bench.jobs.lease import RecordLease
from bench.records import Epoch, MonitorPoint, read
from crt import distributed
from crt.sealed import DamagedError, reading
from crt.text import printable

_KEYS = ("model", "optimizer", "scaler", "ranks", "record")
_RANK_KEYS = ("cpu", "cuda", "method")


class Checkpoints:
    """The checkpoints of one cell, and the weights of its best epoch so far. Rank 0 chooses for all ranks."""

    def __init__(self, cell: Cell, folder: Path, lease: RecordLease):
        self.cell, self.lease = cell, lease
        self.newest, self.previous = folder / "checkpoint.pt", folder / "checkpoint-previous.pt"
        self.best = folder / "best.pt"
        self.recorded: set[int] = set()
        """Epochs that are recorded; one that is trained again is not recorded a second time."""
        self.replaced = ""
        """The damaged files that `choose` found, and what training goes on from; empty for none."""
        self._chosen: Path | None = None
        self._loaded: dict[str, Any] | None = None

    def choose(self) -> None:
        """Choose the newest whole checkpoint, on rank 0, and set damaged ones aside with one warning that names them.

        Where none is whole, the training starts again from its first epoch, and records of earlier epochs are set
        aside, since all epochs are recorded anew.
        """
        records = read(self.lease.file)
        self.recorded = {record.epoch for record in records if isinstance(record, Epoch)}
        monitored = any(isinstance(record, MonitorPoint) for record in records)
        found = [file for file in (self.newest, self.previous) if file.exists()]
        damages: list[str] = []
        with self.lease.held():
            if self.cell.select == "best" and monitored and found and not self._best_is_whole(damages):
                # The best epoch may be any before the checkpoints'.
                for file in found:
                    file.replace(file.with_suffix(".damaged"))
                found = []
            for file in found:
                try:
                    self._loaded = self._read(file)
                    self._chosen = file
                    break
                except DamagedError as error:
                    damages.append(str(error))
                    file.replace(file.with_suffix(".damaged"))
            self._warn(damages, None if self._loaded else self._set_aside(damages))

    def load(self) -> dict[str, Any] | None:
        """The chosen checkpoint, the same on all ranks; None for a training from the first epoch."""
        chosen = distributed.gather(self._chosen)[0]
        if chosen is None:
            return None
        saved, self._loaded = self._loaded or load(chosen, self.cell.id), None
        epochs = distributed.gather(saved["record"]["epoch"])
        if len(set(epochs)) > 1:
            raise ValueError(f"{chosen}: ranks read it as of epochs {epochs} (do all nodes see the same files?)")
        return saved

    def save(self, state: dict[str, Any]) -> None:
        """Write a new checkpoint, and keep the one before."""
        save(self.newest, state, self.cell.id, keep=self.previous)

    def remove(self) -> None:
        """Remove all that a finished training no longer needs."""
        for file in (self.newest, self.previous, self.best):
            for path in (file, file.with_suffix(".damaged"), file.with_suffix(".part")):
                path.unlink(missing_ok=True)

    def _best_is_whole(self, damages: list[str]) -> bool:
        try:
            with reading(self.best, self.cell.id):
                return True
        except FileNotFoundError:
            damages.append(f"{self.best}: missing")
        except DamagedError as error:
            damages.append(str(error))
        return False

    def _read(self, file: Path) -> dict[str, Any]:
        saved = load(file, self.cell.id)
        if problem := _problem(saved, self.cell, max(self.recorded, default=-1)):
            raise DamagedError(f"{file}: {problem}")
        return saved

    def _set_aside(self, damages: list[str]) -> Path | None:
        """Rename the records of epochs that are to be trained again, if there are any; the new name."""
        if not self.recorded:
            return None
        if not damages:
            damages.append(f"{self.newest}: missing, though {len(self.recorded)} epochs are recorded")
        aside = self.lease.file.with_suffix(f".{time.time():.0f}.cut")
        self.lease.file.rename(aside)
        self.recorded = set()
        return aside

    def _warn(self, damages: list[str], aside: Path | None) -> None:
        if not damages:
            return
        then = "training starts from its first epoch" + (f" (earlier records: {aside})" if aside else "")
        if self._loaded:
            then = f"training goes on from {self._chosen}, after epoch {self._loaded['record']['epoch']}"
        self.replaced = printable(f"{'; '.join(damages)}; {then}")
        print(f"warning: {self.replaced}", file=sys.stderr, flush=True)


def _problem(saved: object, cell: Cell, recorded: int) -> str | None:
    """The reason why this content of a checkpoint cannot be resumed from; None without one.

    `recorded` is the last recorded epoch. A job killed between a checkpoint and its record leaves one of the next.
    """
    if not isinstance(saved, dict):
        return "damaged: holds no dictionary"
    averages = ("average",) if cell.recipe.average else ()
    if missing := [key for key in (*_KEYS, *averages) if key not in saved]:
        return f"damaged: lacks {', '.join(missing)}"
    try:
        record = Epoch.model_validate(saved["record"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"damaged: its record: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if record.arm != cell.id:
        return f"a checkpoint of {record.arm}, not of {cell.id}"
    if not 0 <= record.epoch < cell.recipe.epochs:
        return f"of epoch {record.epoch} (allowed: 0 to {cell.recipe.epochs - 1})"
    if record.epoch > recorded + 1:
        return f"of epoch {record.epoch}, but the records end at {recorded if recorded >= 0 else 'none'}"
    if type(written := saved["record"]["epoch"]) is not int:
        return f"damaged: its record: epoch {written!r} is no whole number"
    network = untrained(cell)
    if problem := mismatch(saved["model"], network.state_dict()):
        return f"damaged: model: {problem}"
    if averages and (problem := _unfit_average(saved["average"], network.state_dict())):
        return f"damaged: average: {problem}"
    shapes = [parameter.shape for parameter in network.parameters()]
    if problem := _unfit_optimizer(saved["optimizer"], shapes) or _unfit_ranks(saved["ranks"]):
        return f"damaged: {problem}"
    # A training that diverged has a loss of NaN, too.
    average = {f"average: {name}": value for name, value in saved["average"]["weights"].items()} if averages else {}
    if (name := with_nan(saved["model"] | _buffers(saved["optimizer"]) | average)) and math.isfinite(record.loss):
        return f"damaged: {name} holds NaN, but the loss is {record.loss:.3g}"
    return None


def _unfit_average(state: object, wanted: dict[str, Tensor]) -> str | None:
    if not isinstance(state, dict) or not isinstance(steps := state.get("steps"), Tensor) or steps.shape:
        return "holds no number of steps"
    return mismatch(state.get("weights"), wanted)


def _unfit_optimizer(state: object, shapes: list[torch.Size]) -> str | None:
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return "optimizer: holds no state"
    for number, buffers in state["state"].items():
        if number not in range(len(shapes)) or not isinstance(buffers, dict):
            return f"optimizer: has state of an unknown parameter {number!r}"
        for name, value in buffers.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != shapes[number]:
                return f"optimizer: {name} of parameter {number} has shape {tuple(value.shape)}"
    return None


def _unfit_ranks(ranks: object) -> str | None:
    count = distributed.world_size()
    if not isinstance(ranks, list) or len(ranks) != count:
        return f"ranks: state of {len(ranks) if isinstance(ranks, list) else 'no'} ranks, not of {count}"
    if not all(isinstance(own, dict) and not own.keys() ^ set(_RANK_KEYS) for own in ranks):
        return f"ranks: a rank's state does not consist of {', '.join(_RANK_KEYS)}"
    return None


def _buffers(state: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of an optimizer's state by name."""
    return {
        f"optimizer: {name} of parameter {number}": value
        for number, buffers in state["state"].items()
        for name, value in buffers.items()
        if isinstance(value, Tensor)
    }
