"""The wheel's packages: manifests and Slurm profiles, which have folders of their own here, become data of `bench`.

Templates of HTML pages lie beside the code.
"""

from setuptools import find_packages, setup

CODE = ("bench", "crt", "launchers", "reports")
DATA = ("manifests", "slurm")
PAGE = ("j2", "css", "js")

setup(
    packages=[
        *find_packages(include=[pattern for name in CODE for pattern in (name, f"{name}.*")]),
        *(f"bench.{name}" for name in DATA),
    ],
    package_dir={f"bench.{name}": name for name in DATA},
    package_data={f"bench.{name}": ["**/*.yaml"] for name in DATA}
    | {name: [f"*.{suffix}" for suffix in PAGE] for name in ("bench.commands", "reports.render")},
)
