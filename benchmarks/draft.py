"""How much decoding large JPEGs at a fraction of their size changes the pixels, and how much time it saves.

`python -m benchmarks.draft PHOTOS` enlarges each photo of a folder 2, 4 and 8 times and stores it as a JPEG in a
camera's quality. It compares the network's pixels from a full and from a scaled decoding.
"""

import argparse
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.lib.errors import exit_on_error, read_files_below
from models.image_files import read_pixels
from models.preprocess import Preprocessing, preprocess

PREPROCESSING = Preprocessing(size=224, resize=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
QUALITY = 92


def time_pixels(data: bytes, *, full: bool) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], float]:
    """The pixels and the CPU seconds that they took. What reads files scales while it decodes."""
    started = time.process_time()
    if full:
        with Image.open(io.BytesIO(data)) as image:
            pixels = preprocess(image, PREPROCESSING)
    else:
        pixels = read_pixels(data, PREPROCESSING)
    return pixels.astype(np.int64), time.process_time() - started


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of image files")
    with exit_on_error():
        print_differences(read_files_below(parser.parse_args().photos))


def print_differences(files: Sequence[Path]) -> None:
    """Prints one row a scale: photos, largest and mean difference of a pixel (of 255), ratio of CPU seconds."""
    print(f"{'scale':>5} {'n':>4} {'max':>4} {'mean':>6} {'full/scaled CPU':>16}")
    for scale in (2, 4, 8):
        largest, means, ratios = 0, [], []
        for file in files:
            with Image.open(file) as photo:
                small = photo.convert("RGB")
            camera = io.BytesIO()
            small.resize((small.width * scale, small.height * scale), Image.Resampling.LANCZOS).save(
                camera, "JPEG", quality=QUALITY
            )
            whole, whole_seconds = time_pixels(camera.getvalue(), full=True)
            scaled, scaled_seconds = time_pixels(camera.getvalue(), full=False)
            difference = np.abs(whole - scaled)
            largest = max(largest, int(difference.max()))
            means.append(float(difference.mean()))
            ratios.append(whole_seconds / scaled_seconds)
        print(
            f"{scale:>5} {len(files):>4} {largest:>4} {statistics.mean(means):>6.3f} {statistics.median(ratios):>16.2f}"
        )


if __name__ == "__main__":
    main()
