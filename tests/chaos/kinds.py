"""The kinds of disturbances by name."""

from tests.chaos import betons, checkpoints, manifests, records

KINDS = {module.KIND.name: module.KIND for module in (manifests, checkpoints, records, betons)}
