"""A tiny network under the names of another project, and files that hold it in the ways that people have."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
State = dict[str, Tensor]


def network(seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        model = Classifier(body, 8, 10, MEAN, STD).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
                module.num_batches_tracked.fill_(7)
        return model


def foreign(model: Classifier) -> State:
    """Its state dict as another project names it, without normalization."""
    blocks = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2", "head": "fc"}
    parts = {name: name.rsplit(".", 1) for name in model.state_dict() if not name.startswith("normalize")}
    return {f"{blocks[block]}.{leaf}": model.state_dict()[name] for name, (block, leaf) in parts.items()}


def front(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def constants(mean: str, std: str) -> State:
    return {mean: torch.tensor(MEAN).view(3, 1, 1), std: torch.tensor(STD).view(3, 1, 1)}


def load(path: Path, normalize: bool | None = True, key: str | None = None) -> tuple[Classifier, list[str]]:
    """A network of other weights filled from a file, and the remarks."""
    model = network(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_weights(model, path, None, normalize=normalize, key=key)
    return model, [str(one.message) for one in caught]


def same(a: Classifier, b: Classifier) -> bool:
    """Tell whether two networks have equal tensors; counts of batches, which no output depends on, left out."""
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours if "num_batches" not in name)
