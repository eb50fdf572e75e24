"""Manifests: YAML files read into cells, with every name, argument and number checked."""

from bench.cell import Cell
from bench.manifest.manifest import Manifest
from bench.manifest.read import read as read_manifest

__all__ = ["Cell", "Manifest", "read_manifest"]
