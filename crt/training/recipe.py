"""Recipe of training: number of epochs, batch size and schedule of step sizes."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crt.pickled import Pickled
from crt.quantity import Count, NonNegative, Positive, Real, Share

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Average(BaseModel):
    """An exponential average of the weights, which is kept and evaluated; see `crt.training.average`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decay: Annotated[Real, Field(gt=0, lt=1)]
    """Share of the average that a step leaves; after t steps, at most (1 + t) / (10 + t)."""


class Recipe(Pickled):
    """Optimization of one network; `batch_size` is the global batch size of loaded images over all ranks."""

    epochs: Count
    batch_size: Count
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive
    schedule: Literal["constant", "step", "multistep", "cosine", "cyclic", "geometric"] = "constant"
    step_epochs: Count | None = None
    milestones: tuple[Count, ...] = ()
    factor: Positive = 0.1
    """Factor of the step size at each step or milestone."""
    lr_min: NonNegative = 0.0
    """Final step size of the cosine and geometric schedules."""
    decay_from: Count | None = None
    """Epoch at which the geometric schedule begins to fall."""
    momentum: Share = 0.9
    nesterov: bool = False
    """Nesterov's momentum for SGD (Sutskever et al., 2013)."""
    cycle_momentum: bool = False
    """Lower the momentum by 0.1 while a cyclic step size rises, as torch's CyclicLR does by default."""
    weight_decay: NonNegative = 0.0
    average: Average | None = None
    """Keep and evaluate an average of the weights over the steps, instead of the last step's."""
    label_smoothing: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Share of each label that the loss spreads evenly over all classes (Szegedy et al., 2016); attacks keep the label.

    For methods whose loss has a cross-entropy on labels.
    """
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Number format of the networks' arithmetic; losses, bounds and updates are float32. tf32 needs a GPU."""
    compute: Literal["stated", "fastest"] = "stated"
    """`fastest`: a job sets the fields below by a trial before it begins; `stated`: they are as written."""
    channels_last: bool = False
    """Store the weights of convolutions with channels as the fastest dimension."""
    compile: Literal[False, "default", "reduce-overhead"] = False
    """Compile the networks' bodies with a mode of torch.compile; reduce-overhead needs a GPU."""
    fused: bool = False
    """Update all weights with one kernel."""
    fold: bool = False
    """Fold BatchNorm into convolutions where its statistics are fixed: in the teacher, and in attacks in eval mode.

    Attacks also join each convolution with the sum and the ReLU behind it.
    """
    cuda_graph: bool = False
    """Record whole steps and repeat them; needs one GPU. See `crt.training.cuda_graph`."""
    teacher_stream: bool = False
    """Run the teacher in parallel with the student; needs a GPU."""

    @model_validator(mode="after")
    def _schedule_has_its_own(self) -> "Recipe":
        for key, schedules in _OWNERS.items():
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.schedule not in schedules:
                raise ValueError(f"{key} belongs to schedule: {' or '.join(schedules)}")
            if not given and key in _NEEDED and self.schedule in schedules:
                raise ValueError(f"schedule: {self.schedule} needs {key}")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov: true needs optimizer: sgd and a momentum above 0")
        if self.cuda_graph:
            for key, cannot in (("precision", "fp16"), ("compile", "reduce-overhead"), ("cycle_momentum", True)):
                if getattr(self, key) == cannot:
                    raise ValueError(f"cuda_graph: true cannot record {key}: {str(cannot).lower()}")
        if self.teacher_stream and self.compile == "reduce-overhead":
            raise ValueError("teacher_stream: true cannot go with compile: reduce-overhead, whose graphs share memory")
        if self.lr_min > self.lr or (self.schedule == "geometric" and self.lr_min == 0):
            least = "above 0, " if self.schedule == "geometric" else ""
            raise ValueError(f"lr_min: {self.lr_min:g} (allowed: {least}at most lr)")
        return self

    @property
    def restatable(self) -> bool:
        """True if restatements in plain PyTorch train by this recipe: they average no weights and smooth no labels."""
        return self.average is None and self.label_smoothing == 0

    @property
    def portable(self) -> bool:
        """True if every device and installation supports this recipe."""
        return self.precision != "tf32" and not (self.compile or self.cuda_graph or self.teacher_stream)

    def lr_at(self, epoch: float) -> float:
        """Step size at a (fractional, 0-based) epoch; a drop takes effect from its epoch on.

        The cyclic schedule (Wong et al., 2020, https://arxiv.org/abs/2001.03994) rises from 0 to `lr` and falls back to
        0.
        """
        match self.schedule:
            case "step" if self.step_epochs is not None:
                return self.lr * self.factor ** int(epoch // self.step_epochs)
            case "multistep":
                return self.lr * self.factor ** sum(epoch >= milestone for milestone in self.milestones)
            case "cosine":
                fall = 0.5 * (1 + math.cos(math.pi * min(epoch / self.epochs, 1.0)))
                return self.lr_min + (self.lr - self.lr_min) * fall
            case "cyclic":
                return self.lr * self._risen(epoch)
            case "geometric" if self.decay_from is not None:
                share = (epoch - self.decay_from) / max(self.epochs - 1 - self.decay_from, 1)
                return self.lr * (self.lr_min / self.lr) ** min(max(share, 0.0), 1.0)
        return self.lr

    def momentum_at(self, epoch: float) -> float:
        """SGD's momentum at a (fractional, 0-based) epoch."""
        return self.momentum - 0.1 * self._risen(epoch) if self.cycle_momentum else self.momentum

    def _risen(self, epoch: float) -> float:
        """Triangle over the epochs: 0 at both ends of training, 1 in the middle."""
        return max(0.0, 1 - abs(2 * epoch / self.epochs - 1))

    def set(self, optimizer: "Optimizer", epoch: float) -> None:
        """Set the optimizer's step size and momentum for an epoch."""
        for group in optimizer.param_groups:
            group["lr"] = self.lr_at(epoch)
            if "momentum" in group:
                group["momentum"] = self.momentum_at(epoch)


SWITCHES = ("channels_last", "compile", "fused", "fold", "cuda_graph", "teacher_stream")
"""Fields that change the rounding of the same mathematics, and nothing else."""
EXACT = {"channels_last": True, "fused": True, "fold": True}
"""The switches that every device and installation supports."""
ARITHMETIC = ("precision", *SWITCHES, "compute")
"""Fields that determine how, not what, is computed; times are compared where these are equal."""

_OWNERS = {
    "milestones": ("multistep",),
    "step_epochs": ("step",),
    "factor": ("step", "multistep"),
    "lr_min": ("cosine", "geometric"),
    "decay_from": ("geometric",),
    "cycle_momentum": ("cyclic",),
}
"""Fields that belong to particular schedules only."""
_NEEDED = ("milestones", "step_epochs", "decay_from")
