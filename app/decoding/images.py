"""From the bytes of one image file to the network's pixels, whatever the bytes are.

Owns which formats are read, how much work a file may ask for, and the translation of Pillow's errors: the one place
that knows them.
"""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from app.errors import ImageTooLarge, ServiceError, UndecodableImage, UnsupportedFormat
from models.image_formats import list_formats, recognise_format
from models.preprocess import Pixels, Preprocessing, preprocess

# A progressive JPEG is decoded once for each scan, and a scan can be ten bytes long. So a small file can take minutes.
# Encoders write about ten scans; none writes a hundred.
MAX_SCANS = 100
MAX_SCANS_AT_FULL_SIZE = 10
START_OF_SCAN = b"\xff\xda"


def decode(data: bytes, preprocessing: Preprocessing, max_image_pixels: int) -> Pixels:
    """The (S, S, C) uint8 pixels of an image file's bytes; of an animation, of its first frame.

    Raises UnsupportedFormat, ImageTooLarge (by the header, before anything is decoded) and
    UndecodableImage.
    """
    name = recognise_format(data)
    if name is None:
        raise UnsupportedFormat(f"The data are not an image of an allowed format ({list_formats()}).")
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            _check_work(image, name, data, max_image_pixels)
            return preprocess(image, preprocessing)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more pixels than the allowed {max_image_pixels}.") from error
    except ServiceError:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage(f"The {name} file's header cannot be read.") from error
    # For broken data Pillow's plugins raise many classes, by format: OSError, SyntaxError, struct.error, zlib.error,
    # KeyError, MemoryError and more. All of them mean that these bytes cannot be decoded.
    except Exception as error:
        raise UndecodableImage(f"The {name} file cannot be decoded: it is truncated or corrupt.") from error


def limit_pixels(max_image_pixels: int) -> None:
    """Makes Pillow itself refuse images within images (frames, tiles, thumbnails) above the limit.

    Pillow keeps this for the whole process: it warns above its limit and fails above twice the limit,
    so the warning is made an error.
    """
    Image.MAX_IMAGE_PIXELS = max_image_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _check_work(image: Image.Image, name: str, data: bytes, max_image_pixels: int) -> None:
    area = image.width * image.height
    if area > max_image_pixels:
        raise ImageTooLarge(
            f"The image has {image.width} x {image.height} pixels, more than the allowed {max_image_pixels}."
        )
    if name == "JPEG":
        scans = data.count(START_OF_SCAN)  # entropy-coded bytes never hold it: 0xff is escaped there
        if scans > MAX_SCANS or scans * area > MAX_SCANS_AT_FULL_SIZE * max_image_pixels:
            raise UndecodableImage(f"The JPEG file has {scans} scans, more than {MAX_SCANS} or than its size allows.")
