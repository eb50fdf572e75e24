"""Averages of the weights over the steps of a training (Izmailov et al., 2018, https://arxiv.org/abs/1803.05407).

They are exponential, as in adversarial training by Gowal et al., 2020 (https://arxiv.org/abs/2010.03593).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class WeightAverage:
    """The average d theta_bar + (1 - d) theta of a network's weights and BatchNorm statistics, after each step.

    After t steps, d = min(decay, (1 + t) / (10 + t)), the rule of TensorFlow's ExponentialMovingAverage and of Gowal et
    al.'s code: the average soon forgets the initial weights. BatchNorm's statistics are averaged like the weights. They
    then cover the same steps, and need no pass over the images; Gowal et al. take those of the trained weights. Counts
    of batches are copied.

    All is done on the device, without synchronization and in tensors that keep their addresses, so that a CUDA graph
    can hold it. Ranks have equal weights, and so equal averages without communication; statistics are each rank's own.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, decay: float):
        live = model.state_dict()
        self.decay = decay
        self.weights = {name: tensor.clone() for name, tensor in live.items()}
        """The average, by the names of the network's state dict."""
        self.steps = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
        """Number of steps so far."""
        means = [name for name, tensor in live.items() if tensor.is_floating_point()]
        self._averages, self._live = [self.weights[name] for name in means], [live[name] for name in means]
        self._counts = [name for name, tensor in live.items() if not tensor.is_floating_point()]
        self._live_counts = [live[name] for name in self._counts]
        self._skipped: Tensor | None = None
        optimizer.register_step_post_hook(self._note)

    def _note(self, optimizer: Optimizer, *_: Any) -> None:
        """Note whether the step was skipped: 1 where fp16's loss scale overflowed, which torch tells the optimizer."""
        # Set for the time of a step that has a loss scale.
        self._skipped = vars(optimizer).get("found_inf")

    @torch.no_grad()
    def update(self) -> None:
        """Add the present weights, after an optimizer step; one that was skipped changes nothing and is not counted."""
        taken = 1 if self._skipped is None else 1 - self._skipped.to(self.steps)
        share = (1 - ((1 + self.steps) / (10 + self.steps)).clamp(max=self.decay)) * taken
        self.steps += taken
        changes = torch._foreach_sub(self._live, self._averages)
        torch._foreach_mul_(changes, share.to(changes[0]))
        torch._foreach_add_(self._averages, changes)
        if self._counts:
            torch._foreach_copy_([self.weights[name] for name in self._counts], self._live_counts)

    def state_dict(self) -> dict[str, Any]:
        """The average and its number of steps, for a checkpoint."""
        return {"weights": self.weights, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`, in the same memory."""
        for name, tensor in self.weights.items():
            tensor.copy_(state["weights"][name])
        self.steps.copy_(state["steps"])
