"""Write the golden files: `python tests/golden/write.py [FOLDER]`, by default to where the tests read them.

On one machine the same code writes the same bytes, so `diff -r` of two folders shows what a change of the code alters.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    # A script sees only its own folder; the tests and the code that they test lie above it.
    sys.path[:1] = [str(HERE.parents[1]), str(HERE.parent)]

import torch  # noqa: E402

from golden.identities import PATHS, READINGS, identities  # noqa: E402
from golden.losses import batches, cases, loaders, losses  # noqa: E402


def all_identities() -> dict[str, dict]:
    """Identities of every manifest by its name, `--quick` behind it where it is read so."""
    return {
        f"{name} --quick" if quick else name: identities(path, quick)
        for name, path in PATHS.items()
        for quick in READINGS.values()
    }


def all_losses(data: Path) -> dict[str, list[float]]:
    """Losses by loader, method, data type of the weights and compute setting."""
    made = {kind: batches(kind, data) for kind in loaders()}
    return {"/".join((kind, *case)): losses(case[0], made[kind], *case[1:]) for case in cases() for kind in made}


def dump(content: dict, file: Path) -> None:
    """Write one line per entry; floats are the shortest decimals that give back every bit."""
    lines = (f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in content.items())
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(folder: Path) -> None:
    # Sums of float32 depend on how many threads share them.
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        for name, content in {"losses.json": lambda: all_losses(Path(data)), "cell_ids.json": all_identities}.items():
            print(f"writing {folder / name}, which takes a minute")
            dump(content(), folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
