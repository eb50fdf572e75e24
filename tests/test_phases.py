"""The phases of an epoch: what takes time is seen where it does, and the parts make up the whole."""

import torch

from bench.measure import phases
from crt.data.batches import Loader


def test_phases_are_told_apart_and_sum_to_the_whole(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(phases, "perf_counter", lambda: now[0])

    class Slow(Loader):
        """Three batches; each takes 2 s to wait for and 3 s to move."""

        def __init__(self):
            self.device, self.epoch = torch.device("cpu"), 0

        def __len__(self) -> int:
            return 3

        def own(self, tensor: torch.Tensor) -> torch.Tensor:
            now[0] += 3
            return tensor

        def batches(self, epoch: int):
            for _ in range(3):
                now[0] += 2
                yield self.own(torch.ones(1)), torch.ones(1), torch.ones(1)

    loader = Slow()
    seen = phases.Phases(loader, torch.nn.Identity())
    for _ in seen:
        now[0] += 5
    assert seen.host == {"loader": 6.0, "transfer": 9.0, "compute": 15.0, "all_reduce": 0.0}
    assert seen.device is None and sum(seen.host.values()) == now[0] - 100
    assert "own" not in vars(loader)
