"""Images: files that Pillow reads, and the IDX files of MNIST."""

import gzip
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
IMAGE_BYTES = 1 << 25
"""Most bytes of images a batch."""
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


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
    from PIL import Image, UnidentifiedImageError

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"this model takes samples of shape {shape}, not images")
    size = max(1, min(most, IMAGE_BYTES // prod(shape)))
    for start in range(0, len(paths), size):
        chosen = paths[start : start + size]
        x = np.empty((len(chosen), *shape), np.uint8)
        for place, path in zip(x, chosen, strict=True):
            try:
                with Image.open(path) as image:
                    if image.size != (shape[2], shape[1]):
                        raise InputError(
                            f"{path} is {image.size[0]} x {image.size[1]} pixels, this model takes "
                            f"{shape[2]} x {shape[1]}: resize it first"
                        )
                    if getattr(image, "n_frames", 1) > 1:
                        raise InputError(f"{path} holds several pages: save each as a file of its own")
                    if image.mode[0] in "IF":
                        raise InputError(f"{path} has more than 8 bits a channel: save it as .npy in the model's units")
                    pixels = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"))
            except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise InputError(f"{path} is not a whole image: {error}") from None
            place[...] = pixels if shape[0] == 1 else pixels.transpose(2, 0, 1)
        yield x, chosen


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file (the format of MNIST), plain or gzip-compressed.

    Source: LeCun, Cortes, Burges, *The MNIST database*, file format section.

    Raises:
        InputError: not an IDX file, or cut short.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    kind, dimensions = (data[2], data[3]) if len(data) >= 4 and data[:2] == b"\0\0" else (0, 0)
    head = 4 + 4 * dimensions
    if kind not in _IDX_TYPES or dimensions == 0 or len(data) < head:
        raise InputError(f"{path} is not an IDX file")
    shape = struct.unpack(f">{dimensions}I", data[4:head])
    dtype = np.dtype(_IDX_TYPES[kind])
    if len(data) - head != prod(shape) * dtype.itemsize:
        raise InputError(
            f"{path} announces {prod(shape)} values of {dtype.itemsize} bytes but holds {len(data) - head} bytes"
        )
    return np.frombuffer(data, dtype, offset=head).reshape(shape)
