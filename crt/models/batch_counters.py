"""Counters of batches in BatchNorms, advanced together instead of one by one in each forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from crt.models.classifier import Classifier


class BatchCounters:
    """The counters of a network's BatchNorms that no computation reads: those with a fixed momentum."""

    def __init__(self, model: Classifier):
        self.model = model
        self.norms = [
            module
            for module in model.body.modules()
            if isinstance(module, _BatchNorm) and module.momentum is not None and module.num_batches_tracked is not None
        ]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context of passes in train mode, at whose end all counters rise by the number of these passes."""
        counters = [norm.num_batches_tracked for norm in self.norms]
        before = self.model.train_passes
        for norm in self.norms:
            norm.num_batches_tracked = None
        try:
            yield
        finally:
            for norm, counter in zip(self.norms, counters, strict=True):
                norm.num_batches_tracked = counter
        if counters and (passes := self.model.train_passes - before):
            torch._foreach_add_([counter for counter in counters if counter is not None], passes)
