"""Decoding of one image file."""

import io

from PIL import Image, ImageOps, UnidentifiedImageError

_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")
"""Modes whose values Pillow would clip in a conversion to RGB."""


def unreadable(error: Exception) -> str:
    """Message about an image that no decoder could read."""
    # Pillow's own words name an object in memory.
    reason = "no decoder knows its format" if isinstance(error, UnidentifiedImageError) else error
    return f"cannot be read: {reason} (allowed: a whole image)"


def decoded(content: bytes) -> Image.Image:
    """The upright RGB image in a file's bytes, of any format and colours of 8 bits; ValueError for any other file."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # a decoder may raise any error on broken bytes
        raise ValueError(unreadable(error)) from None
    if mode in _DEEP:
        raise ValueError(f"an image of mode {mode} (allowed: 8 bits a colour)")
    return upright
