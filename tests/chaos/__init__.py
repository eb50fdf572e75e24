"""Chaos campaigns: seeded disturbances of clusters, files and manifests, after each of which promises are checked.

`python -m tests.chaos --help` tells the options; each kind of disturbance has a file of its own here.
"""
