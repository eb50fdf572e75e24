"""The kinds of disturbances, by name."""

from tests.chaos import betons, checkpoints, manifests, records
from tests.chaos.kind import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (manifests.KIND, checkpoints.KIND, records.KIND, betons.KIND)}
