"""From images as people have them to a dataset's .beton files."""

from functools import partial
from pathlib import Path

from rich.progress import track

from crt.data import Dataset, imagenet
from crt.data.beton_file import check, console, write
from crt.data.sources import digits, folder, pickles


def convert(dataset: Dataset, source: Path | None, data: Path, side: int = 500, quality: int = 90) -> None:
    """Read, check and write both splits; without `source`, download them. ValueError where they are others."""
    if dataset.resize:
        if source is None or not source.exists():
            wrong = "--source: missing" if source is None else f"{source}: no such folder or tar"
            raise ValueError(f"{wrong} (allowed for --source: a folder or a tar of train/CLASS/*, val/CLASS/*)")
        return imagenet.convert(dataset, source, data, side, quality)
    if source is not None and not source.is_dir():
        raise ValueError(f"{source}: no such folder (allowed for --source: a folder of the images)")
    # Both splits are read and checked before either is written.
    splits = {}
    for split in ("train", "test"):
        if dataset.name == "digits":
            splits[split] = digits(split)
        elif source is None or (source / "cifar-10-batches-py").is_dir():
            splits[split] = pickles(split, source, data)
        else:
            bar = partial(track, description=f"reading {split}", console=console())
            splits[split] = folder(dataset, split, source, bar)
        check(dataset, split, *splits[split])
    for split, (images, labels) in splits.items():
        path = write(dataset, split, data, images, labels)
        print(f"{path}: {len(labels)} images")
