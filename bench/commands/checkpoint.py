"""Weights that a command is given by their file: read into their network, on this rank's device."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bench.command import warnings_as_notes
from crt import distributed
from crt.data import DATASETS, PIPELINES
from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights
from crt.plugins import find, plugins


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file of weights, and what its network is."""

    file: Path
    arch: str
    dataset: str
    pipeline: str
    """Its constants are those that the network normalizes with."""
    normalize: bool | None = None
    """True where the network takes normalized pixels; None where the file tells."""
    key: str | None = None
    """The state dict to use, where the file holds several."""

    def load(self) -> tuple[Classifier, str]:
        """The network in eval mode and the file's SHA-256; ValueError for a name or a file that is not right."""
        _known("--arch", self.arch, plugins("crt.archs"))
        _known("--dataset", self.dataset, DATASETS)
        _known("--pipeline", self.pipeline, PIPELINES)
        dataset, pipeline = DATASETS[self.dataset], PIPELINES[self.pipeline]
        body, width = find("crt.archs", self.arch)()
        model = Classifier(body, width, len(dataset.classes), *pipeline.normalization(dataset), clamp=pipeline.clamp)
        with warnings_as_notes():
            digest = load_weights(model, self.file, None, normalize=self.normalize, key=self.key)
        return model.eval().to(distributed.device()), digest

    def settings(self, digest: str) -> dict[str, str | bool | None]:
        """The part of an answer's identity that the network is."""
        named = {"normalize": self.normalize, "arch": self.arch, "dataset": self.dataset, "pipeline": self.pipeline}
        # A key that is not given is no part of it, so that it changes nobody's tables.
        return {"checkpoint": digest} | named | ({} if self.key is None else {"key": self.key})


def _known(option: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise ValueError(f"{option} {name}: unknown (allowed: {', '.join(sorted(allowed))})")
