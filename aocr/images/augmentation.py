"""Augmentation: random distortions of training images, in TensorFlow operations.

All random numbers of an image depend on its own seed only, and therefore neither on its batch nor
on the thread in which it is processed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aocr.images import distortions
from aocr.images.distortions import WHITE

_DRAWS = 20  # random numbers of an image, without its noise


class Strength(NamedTuple):
    """Limits of the distortions.

    Amounts are drawn uniformly between 0 and the limit, in either direction where there are two.

    In a wide image, magnification, rotation and perspective would move the ends out of view. Each
    of them is therefore limited to moving no edge outwards by more than `reach` pixels.

    Attributes:
        shift: In pixels.
        scale: Share by which width and height, each on its own, become smaller or larger.
        shear: Horizontal shift per pixel of height.
        rotation: In radians.
        perspective: Change of scale over half the height.
        reach: See above.
        contrast: Share by which contrast becomes lower or higher.
        brightness: Share of white that is added or subtracted.
        inversion: Probability that black and white are exchanged.
        blur: Probability, and standard deviation in pixels.
        noise: Probability, and standard deviation as a share of white.
        erasing: Probability, and sides of the erased rectangle as a share of the height.
        jpeg: Probability, and reduction of the quality, from 100.
    """

    shift: float
    scale: float
    shear: float
    rotation: float
    perspective: float
    reach: float
    contrast: float
    brightness: float
    inversion: float
    blur: tuple[float, float]
    noise: tuple[float, float]
    erasing: tuple[float, float]
    jpeg: tuple[float, float]


STRENGTHS = {
    "light": Strength(
        shift=1.0, scale=0.08, shear=0.1, rotation=0.035, perspective=0.05, reach=1.0,
        contrast=0.2, brightness=0.08, inversion=0.0, blur=(0.25, 0.7), noise=(0.25, 0.04),
        erasing=(0.1, 0.2), jpeg=(0.25, 50.0)),
    "strong": Strength(
        shift=2.0, scale=0.2, shear=0.3, rotation=0.1, perspective=0.15, reach=2.0,
        contrast=0.5, brightness=0.15, inversion=0.1, blur=(0.5, 1.1), noise=(0.5, 0.1),
        erasing=(0.4, 0.35), jpeg=(0.5, 85.0)),
}


def augment(pixels: tf.Tensor, seed: tf.Tensor, strength: Strength) -> tf.Tensor:
    """Returns an image of the same size with random distortions.

    Args:
        pixels: `[height, width, channels]`, 0…255.
        seed: Seed of the run, number of the use (below 2^30; see `BatchRecords.uses`) and record
            (below 2^32), `[3]` int64.
        strength: Limits of the distortions.

    Returns:
        `[height, width, channels]`, 0…255.
    """
    stream = (seed[1] * 2 ** 32 + seed[2]) * 2
    draws = tf.random.stateless_uniform([_DRAWS], [seed[0], stream])
    matrix = random_transform(tf.shape(pixels), 2.0 * draws[:8] - 1.0, strength)
    erasing, sides, corner, gray, blur, contrast, brightness, inversion, noise, jpeg = tf.split(
        draws[8:], [1, 2, 2, 1, 1, 1, 1, 1, 1, 1])

    def erase(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        rectangle = sides * strength.erasing[1] * size[0]
        return distortions.erase(image, corner * size - rectangle / 2.0, rectangle, gray * WHITE)

    image = distortions.warp(pixels, matrix)
    image = _sometimes(erasing[0], strength.erasing, image, erase)
    image = _sometimes(blur[0], strength.blur, image, distortions.blur)
    sign = tf.where(inversion < strength.inversion, -1.0, 1.0)
    image = distortions.adjust(
        image, sign * (1.0 + strength.contrast * (2.0 * contrast - 1.0)),
        strength.brightness * (2.0 * brightness - 1.0))
    image = _sometimes(
        noise[0], strength.noise, image, lambda image, deviation: distortions.add_noise(
            image, tf.stack([seed[0], stream + 1]), deviation))
    return _sometimes(
        jpeg[0], strength.jpeg, image, lambda image, reduction: distortions.compress(
            image, tf.cast(100.0 - reduction, tf.int32)))


def random_transform(shape: tf.Tensor, draws: tf.Tensor, strength: Strength) -> tf.Tensor:
    """Returns a random projective transform, see `distortions.transform`.

    Args:
        shape: Height and width of the image, and other numbers.
        draws: `[8]`, from -1 to 1.
        strength: Limits.
    """
    size = tf.cast(shape[1::-1], tf.float32)
    largest = strength.reach * 2.0 / size  # share by which an edge may move outwards
    zoom = tf.minimum(1.0 + strength.scale * draws[:2], 1.0 + largest)
    angle = draws[2] * tf.minimum(strength.rotation, largest[0])
    shear = draws[3] * strength.shear
    perspective = draws[4:6] * tf.minimum(
        strength.perspective * 2.0 / size[1], largest[0] * 2.0 / size)
    sine, cosine = tf.sin(angle), tf.cos(angle)
    linear = tf.stack([[cosine, shear * cosine - sine], [sine, shear * sine + cosine]]) / zoom
    return distortions.transform(size, linear, draws[6:] * strength.shift, perspective)


def _sometimes(draw: tf.Tensor, limits: tuple[float, float], image: tf.Tensor,
               distort: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Returns an image that is distorted with a probability.

    Args:
        draw: Uniform from 0 to 1; below the probability, its ratio to it is uniform as well, and
            determines the amount.
        limits: The probability, and the largest amount.
        image: The image.
        distort: Function of the image and the amount.
    """
    probability, limit = limits
    return tf.cond(draw < probability, lambda: distort(image, draw / probability * limit),
                   lambda: image)
