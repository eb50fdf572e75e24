"""The kinds of disturbances, by name."""

from tests.chaos import betons, checkpoints, cluster, manifests, records
from tests.chaos.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (cluster.KIND, manifests.KIND, checkpoints.KIND, records.KIND, betons.KIND)
}
