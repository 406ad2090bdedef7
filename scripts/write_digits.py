"""Write the test images of the embedded digits as PNG files, something for `deepad score` to read.

python scripts/write_digits.py --held-out 9 --output runs/demo/images
"""

import argparse
from pathlib import Path

from PIL import Image

from deepad.data import Digits


def main(held_out: int, output: str) -> None:
    """One file an image, named by its place in the test split and by what it is."""
    data = Digits(held_out=held_out)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("normal", "anomaly")
    test = data.splits.test
    for row in range(len(test)):
        image, anomaly = test[row]
        Image.fromarray(image[0].numpy()).save(folder / f"{row:03}-{names[anomaly]}.png")
    print(f"{len(test)} images in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=int, default=9)
    parser.add_argument("--output", default="runs/demo/images")
    main(**vars(parser.parse_args()))
