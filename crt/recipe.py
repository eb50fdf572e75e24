"""How long, in what batches and with what step sizes a network is trained."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from crt.quantity import Count, NonNegative, Positive, Share


class Recipe(BaseModel):
    """Optimization of one network; `batch_size` counts loaded images over all ranks together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Count
    batch_size: Count
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive
    schedule: Literal["constant", "step", "multistep", "cosine"] = "constant"
    step_epochs: Count | None = None
    milestones: tuple[Count, ...] = ()
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _schedule_has_its_epochs(self) -> "Recipe":
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("milestones belong to schedule: multistep, and it needs them")
        if (self.schedule == "step") != (self.step_epochs is not None):
            raise ValueError("step_epochs belongs to schedule: step, and it needs it")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        return self

    def lr_at(self, epoch: float) -> float:
        """The step size at a (fractional, 0-based) epoch; steps fall by 10, the drop in force from its epoch on."""
        match self.schedule:
            case "step":
                return self.lr * 0.1 ** int(epoch // self.step_epochs)
            case "multistep":
                return self.lr * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
            case "cosine":
                return self.lr * 0.5 * (1 + math.cos(math.pi * min(epoch / self.epochs, 1.0)))
        return self.lr
