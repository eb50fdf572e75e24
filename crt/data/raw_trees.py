"""Raw .beton files from the images of class folders: written one by one, and continued after an interruption."""

from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from crt.data import Dataset, imagenet, layout
from crt.data.progress import say
from crt.data.trees import Tree


def write_trees(
    dataset: Dataset, trees: Mapping[str, Tree], shape: Callable[[Image.Image], Image.Image], source: Path, data: Path
) -> list[str]:
    """Write each split's images in an order shuffled once and for all, so that the first K are a representative part.

    `shape` makes an upright RGB image one of the dataset's size. ValueError for an image that cannot be read or shaped;
    no lines are left to report.
    """
    height, width = dataset.shape[1:]

    def raw(image: Image.Image) -> imagenet.Encoded:
        return layout.RAW, height, width, shape(image).tobytes()

    for split, tree in trees.items():
        path = dataset.path(split, data)
        try:
            data.mkdir(parents=True, exist_ok=True)
            left_out = imagenet.write(path, tree, raw, dataset.name, shuffle=True)
        except OSError as error:
            raise ValueError(
                f"{error.filename or path}: {error.strerror} (what is done is kept: the same command goes on)"
            ) from None
        if left_out:
            path.unlink()
            raise ValueError(
                f"{source}: {split}: {left_out[0]}: no image of {height}x{width} can be read from it, nor from"
                f" {len(left_out) - 1} others (allowed: whole images)"
            )
        say(f"{path}: " + ("there already" if left_out is None else f"{len(tree.images)} images"))
    return []
