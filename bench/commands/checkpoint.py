"""Load a checkpoint file into its network, on this rank's device."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bench.command import warnings_as_notes
from crt import distributed
from crt.data import DATASETS, PIPELINES
from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights
from crt.plugins import find, modules


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file of weights, and the description of its network."""

    file: Path
    arch: str
    dataset: str
    pipeline: str
    """Pipeline whose constants normalize the pixels."""
    normalize: bool | None = None
    """True if the network expects normalized pixels; None to read it from the file."""
    key: str | None = None
    """Key of the state dict to use in a file that holds several."""

    def load(self) -> tuple[Classifier, str]:
        """The network in eval mode and the file's SHA-256; ValueError for an unknown name or an unfit file."""
        _known("--arch", self.arch, modules("crt.archs"))
        _known("--dataset", self.dataset, DATASETS)
        _known("--pipeline", self.pipeline, PIPELINES)
        dataset, pipeline = DATASETS[self.dataset], PIPELINES[self.pipeline]
        body, width = find("crt.archs", self.arch)()
        model = Classifier(body, width, len(dataset.classes), *pipeline.normalization(dataset), clamp=pipeline.clamp)
        with warnings_as_notes():
            digest = load_weights(model, self.file, None, normalize=self.normalize, key=self.key)
        return model.eval().to(distributed.device()), digest

    def settings(self, digest: str) -> dict[str, str | bool | None]:
        """Settings of a table that describe the network; `digest` is the SHA-256 of the file."""
        description = {
            "normalize": self.normalize,
            "arch": self.arch,
            "dataset": self.dataset,
            "pipeline": self.pipeline,
        }
        # A missing key is left out, so that tables from before there were keys stay valid.
        return {"checkpoint": digest} | description | ({} if self.key is None else {"key": self.key})


def _known(option: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise ValueError(f"{option} {name}: unknown (allowed: {', '.join(sorted(allowed))})")
