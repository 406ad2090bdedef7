"""Images: files that Pillow reads."""

import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError, reason_of

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
IMAGE_BYTES = 1 << 25
"""Most bytes of images a batch."""


def images_below(folder: Path) -> list[Path]:
    """All images in a folder, by name.

    Raises:
        InputError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    if not found:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGES))})")
    return found


def read_images(paths: list[Path], shape: tuple[int, ...], most: int) -> Iterator[tuple[NDArray[np.uint8], list[Path]]]:
    """Images as uint8 (B, C, H, W), at most so many at once, grey for one channel and RGB for three; and their files.

    Raises:
        InputError: a file that is no whole image, or an image of another size or kind.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"this model takes samples of shape {shape}, not images")
    size = max(1, min(most, IMAGE_BYTES // prod(shape)))
    for start in range(0, len(paths), size):
        chosen = paths[start : start + size]
        x = np.empty((len(chosen), *shape), np.uint8)
        for place, path in zip(x, chosen, strict=True):
            pixels = _pixels(path, shape)
            place[...] = pixels if shape[0] == 1 else pixels.transpose(2, 0, 1)
        yield x, chosen


def _pixels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image (H, W) or (H, W, 3) of the size of a sample (C, H, W), decoded after what its header says is checked."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked next
            image = Image.open(path)
        with image:
            if image.size != (shape[2], shape[1]):
                raise InputError(
                    f"{path} is {image.size[0]} x {image.size[1]} pixels, this model takes {shape[2]} x {shape[1]}: "
                    "resize it first"
                )
            if getattr(image, "is_animated", False):  # to count pages is to walk through all of them
                raise InputError(f"{path} holds several pages: save each as a file of its own")
            if image.mode[0] in "IF":
                raise InputError(f"{path} has more than 8 bits a channel: save it as .npy in the model's units")
            return np.asarray(image.convert("L" if shape[0] == 1 else "RGB"))
    except InputError:
        raise
    except Exception as error:  # what reads one kind of image raises what it likes
        raise InputError(f"{path} is not a whole image: {reason_of(error)[:200]}") from None
