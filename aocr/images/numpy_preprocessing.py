"""Decodes, resizes and normalizes images with Pillow and NumPy.

The same as `preprocessing` without TensorFlow, for recognizers that run without it. Results are
equal within rounding, except for JPEG files in color: TensorFlow uses the fast inverse DCT, which
Pillow offers only together with a simpler upsampling of the color channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.images.headers import open_image

_MIDDLE_GRAY = 128.0
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")  # those of `transcoding.to_decodable`
# The weights of red, green and blue in libpng, of 2^15, as TensorFlow sets them.
_PNG_WEIGHTS = np.array([9797, 19234, 3737])
_SRGB_GAMMA = 0.45455  # of PNG files with a chunk sRGB
_LINEAR_GAMMA_RANGE = 0.05  # libpng takes exponents this close to 1 for 1
# Those of tf.image.rgb_to_grayscale.
_RGB_WEIGHTS = np.array([0.2989, 0.5870, 0.1140], np.float32)
_GRAY_MODES = ("1", "L", "LA")
_GRAY_DECODERS = ("PNG", "JPEG", "MPO")  # formats that TensorFlow's decoders convert to gray
_OPAQUE = 255
_ROWS = 8  # that are scaled at once: their neighbors are copied, several times the image in total
_TABLE_SIZE = 1 << 10  # of TensorFlow's kernels without antialiasing, which are tables


def preprocess(encoded: bytes, config: ModelConfig, max_pixels: int) -> np.ndarray:
    """Returns an image as the network's input; see `preprocessing.preprocess`.

    Args:
        encoded: A file that `aocr.images.transcoding.to_decodable` has returned.
        config: Channels, widths, resizing kernel and alpha.
        max_pixels: Largest number of pixels that its header may declare.

    Returns:
        `[32, width, channels]`, `(value - 128) / 128`.

    Raises:
        SkipError: The file cannot be decoded.
    """
    pixels = decode(encoded, config, max_pixels).astype(np.float32)
    height, width = scaled_size(pixels.shape[0], pixels.shape[1], config)
    neighbors = _KERNELS[config.kernel]
    rows = _weighted_sums(pixels, *neighbors(pixels.shape[0], height))
    columns = _weighted_sums(rows.swapaxes(0, 1), *neighbors(pixels.shape[1], width))
    scaled = columns.swapaxes(0, 1)
    if config.layout == "padded":
        scaled = np.pad(scaled, ((0, IMAGE_HEIGHT - height), (0, config.input_width - width),
                                 (0, 0)))
    return (scaled - _MIDDLE_GRAY) / _MIDDLE_GRAY


def pad_batch(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pads images with zeros to the width of the widest.

    Args:
        images: `[32, width, channels]` each.

    Returns:
        Images `[batch, 32, width, channels]` and their widths in pixels, `[batch]` int32.
    """
    widths = np.array([image.shape[1] for image in images], np.int32)
    widest = int(widths.max())
    padded = [np.pad(image, ((0, 0), (0, widest - image.shape[1]), (0, 0))) for image in images]
    return np.stack(padded), widths


def decode(encoded: bytes, config: ModelConfig, max_pixels: int) -> np.ndarray:
    """Decodes an image to `[height, width, channels]` uint8; see `preprocessing.decode`.

    Raises:
        SkipError: The file cannot be decoded.
    """
    with open_image(encoded, max_pixels, _FORMATS) as image:
        alpha = _alpha(image) if config.alpha == "composite" else None
        if config.channels == 1 and (image.format in _GRAY_DECODERS or image.mode in _GRAY_MODES):
            return _composite(_decode_gray(image), alpha)
        colors = _composite(np.asarray(image.convert("RGB")), alpha)
        return colors if config.channels == 3 else _rgb_to_grayscale(colors)


def scaled_size(height: int, width: int, config: ModelConfig) -> tuple[int, int]:
    """Returns the height and width of an image in the network's input.

    See `preprocessing.scaled_size`.
    """
    proportional = -(-width * IMAGE_HEIGHT // height)
    if config.layout != "padded":
        return IMAGE_HEIGHT, min(proportional, config.input_width)
    if proportional > config.input_width:
        return -(-config.input_width * IMAGE_HEIGHT // proportional), config.input_width
    if height <= IMAGE_HEIGHT:
        return height, width
    return IMAGE_HEIGHT, proportional


def _alpha(image: Image.Image) -> np.ndarray | None:
    """Returns the alpha of a PNG or WebP file, `[height, width, 1]` uint8; `None` without any."""
    if image.format not in ("PNG", "WEBP") or not image.has_transparency_data:
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))[:, :, None]


def _composite(colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Blends an image with white or black; see `preprocessing._composite`."""
    if alpha is None:
        return colors
    gray = colors if colors.shape[2] == 1 else _rgb_to_grayscale(colors)
    opacity = alpha.astype(np.int32)
    is_light = 2 * (gray.astype(np.int64) * alpha).sum() > _OPAQUE * opacity.sum(dtype=np.int64)
    background = 0 if is_light else _OPAQUE
    blended = colors.astype(np.int32) * opacity + background * (_OPAQUE - opacity)
    return ((blended + _OPAQUE // 2) // _OPAQUE).astype(np.uint8)


def _decode_gray(image: Image.Image) -> np.ndarray:
    """Returns the gray values that the decoder of the format gives, `[height, width, 1]` uint8."""
    if image.format == "PNG" and image.mode not in _GRAY_MODES:
        return _png_gray(np.asarray(image.convert("RGB")), _png_gamma(image))
    if isinstance(image, JpegImageFile):
        image.draft("L", image.size)  # libjpeg then returns the luminance of the file
        image.decoderconfig = (1, 1)  # by the fast inverse DCT, which is TensorFlow's default
    return np.asarray(image.convert("L"))[:, :, None]


def _rgb_to_grayscale(colors: np.ndarray) -> np.ndarray:
    """Converts `[height, width, 3]` uint8 as `tf.image.rgb_to_grayscale` does."""
    gray = colors.astype(np.float32) * np.float32(1 / 255) @ _RGB_WEIGHTS
    return (gray * np.float32(255.5)).astype(np.uint8)[:, :, None]


def _png_gamma(image: Image.Image) -> float:
    """Returns the exponent of a PNG file's samples, 1 where it names none."""
    gamma = float(_SRGB_GAMMA if "srgb" in image.info else image.info.get("gamma", 1.0))
    return gamma if abs(gamma - 1) > _LINEAR_GAMMA_RANGE else 1.0


def _png_gray(colors: np.ndarray, gamma: float) -> np.ndarray:
    """Converts `[height, width, 3]` uint8 to `[height, width, 1]` as libpng, in linear light."""
    if gamma == 1:
        return (colors @ _PNG_WEIGHTS >> 15).astype(np.uint8)[:, :, None]
    levels = np.arange(256) / 255
    linear, back = ((255 * levels ** exponent + 0.5).astype(np.uint8)
                    for exponent in (1 / gamma, gamma))
    gray = back[(linear[colors] @ _PNG_WEIGHTS + (1 << 14)) >> 15]
    is_gray = np.all(colors == colors[:, :, :1], -1)  # libpng keeps these values
    return np.where(is_gray, colors[:, :, 0], gray)[:, :, None]


def _weighted_sums(pixels: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns `[new_size, ...]`: sums of the pixels at indices, both `[new_size, neighbors]`."""
    weights = weights.astype(np.float32)
    return np.concatenate([
        np.einsum("nk,nk...->n...", weights[n:n + _ROWS], pixels[indices[n:n + _ROWS]])
        for n in range(0, len(weights), _ROWS)])


def _antialias_neighbors(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights as those of `tf.image.resize(antialias=True)`.

    Source: the operation ScaleAndTranslate of TensorFlow; Keys 1981, "Cubic Convolution
    Interpolation for Digital Image Processing", with a = -0.5.
    """
    scale = size / new_size
    width = max(scale, 1.0)
    centers = (np.arange(new_size) + 0.5) * scale
    first = np.ceil(centers - 2 * width - 0.5).astype(int)
    indices = first[:, None] + np.arange(int(4 * width) + 1)
    weights = _keys_cubic(np.abs(indices + 0.5 - centers[:, None]) / width, -0.5)
    return _within_border(indices, weights, size)


def _tf1_neighbors(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights as those of `ResizeBicubic` without half-pixel centers.

    Pixels beyond the border repeat those on it.
    """
    indices, weights = _table_weights(np.arange(new_size) * np.float32(size / new_size), -0.75)
    return np.clip(indices, 0, size - 1), weights


def _tf2_neighbors(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights as those of `ResizeBicubic` with half-pixel centers.

    Pixels beyond the border do not count.
    """
    positions = (np.arange(new_size) + np.float32(0.5)) * np.float32(size / new_size)
    indices, weights = _table_weights(positions - np.float32(0.5), -0.5)
    return _within_border(indices, weights, size)


def _table_weights(positions: np.ndarray, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the four neighbors of each position and their weights, `[positions, 4]`."""
    positions = positions.astype(np.float32)
    first = np.floor(positions)
    fractions = np.rint((positions - first) * _TABLE_SIZE) / _TABLE_SIZE
    neighbors = np.arange(-1, 3)
    return (first.astype(int)[:, None] + neighbors,
            _keys_cubic(np.abs(neighbors - fractions[:, None]), a))


def _within_border(indices: np.ndarray, weights: np.ndarray, size: int
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights without those beyond the border; weights sum to 1."""
    weights = np.where((indices >= 0) & (indices < size), weights, 0)
    return np.clip(indices, 0, size - 1), weights / weights.sum(1, keepdims=True)


def _keys_cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Returns the cubic convolution kernel at distances of at least 0."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS: dict[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]] = {
    "bicubic-antialias": _antialias_neighbors, "bicubic-tf1": _tf1_neighbors,
    "bicubic-tf2": _tf2_neighbors}
