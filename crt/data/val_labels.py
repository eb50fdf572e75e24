"""Classes of ImageNet's validation images, from the usual files of labels."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

_SYNSET = re.compile(r"(?<![\w])n\d{8}(?![\w])")
_WORD = re.compile(r"[^\s,;:'\"]+")
_NUMBER = re.compile(r"(\d+)\.\w+$")
_ALLOWED = (
    "an image's name and its WordNet ID a line, such as ILSVRC2012_val_00000001.JPEG n01751748,"
    " LOC_val_solution.csv, or a WordNet ID a line in the order of the images' numbers"
)


def read_labels(file: Path, images: Iterable[str]) -> dict[str, str]:
    """WordNet ID of each image, from lines that contain both, in any order and with anything else in between.

    Alternatively, each line is a WordNet ID alone, and line K is for the image whose name ends with number K.
    ValueError, with the line, for images without a class or with two, and for numbers, since they mean different
    classes in different lists.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ValueError(f"{file}: {reason} (allowed: a text file of {_ALLOWED})") from None
    stems = {PurePosixPath(image).stem: image for image in images}
    filled = [line.strip() for line in lines if line.strip()]
    if filled and all(_SYNSET.fullmatch(line) for line in filled):
        labels = _numbered(file, filled, stems.values())
    else:
        labels = _named(file, lines, stems)
    missing = sorted(set(stems.values()) - labels.keys())
    if missing:
        raise ValueError(
            f"{file}: {_numbers(lines)}{missing[0]} has no WordNet ID there, nor have {len(missing) - 1:,} other images"
            f" (allowed: {_ALLOWED})"
        )
    return labels


def _numbered(file: Path, synsets: list[str], images: Iterable[str]) -> dict[str, str]:
    labels = {}
    for image in images:
        number = _NUMBER.search(image)
        if number is None or not 1 <= int(number[1]) <= len(synsets):
            raise ValueError(
                f"{file}: {len(synsets):,} WordNet IDs without images' names, and {image} does not end with a number"
                f" from 1 to {len(synsets)} (allowed: {_ALLOWED})"
            )
        labels[image] = synsets[int(number[1]) - 1]
    return labels


def _named(file: Path, lines: list[str], stems: dict[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = {PurePosixPath(word).name for word in _WORD.findall(line)}
        images = {stems[stem] for word in words for stem in (word, PurePosixPath(word).stem) if stem in stems}
        synsets = set(_SYNSET.findall(line))
        if len(images) == 1 and synsets:
            classes = {*synsets, *([labels[image]] if (image := min(images)) in labels else [])}
            if len(classes) > 1:
                raise ValueError(
                    f"{file}:{number}: {image} is of {' and of '.join(sorted(classes))} (allowed: one WordNet ID each)"
                )
            labels[image] = classes.pop()
    return labels


def _numbers(lines: list[str]) -> str:
    """Error message for a file of numbers; empty for any other file."""
    if not lines or not re.fullmatch(r"(\S+[\s,]+)?\d{1,4}", lines[0].strip()):
        return ""
    return (
        "numbers, which say no class: ILSVRC2012_validation_ground_truth.txt counts in the order of its development"
        " kit, other lists in the order of the WordNet IDs; "
    )
