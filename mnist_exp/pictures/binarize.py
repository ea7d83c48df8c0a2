"""Binarize: separate ink from paper, whatever their colours and the lighting."""

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_exp.pictures.decode import Floats

COARSE = 40  # pixels per side of the copies that paper and lighting are estimated from
MIN_SEPARATION = 0.8  # of the variance lies between ink and paper: a drawing or scan, evenly lit
MIN_CONTRAST = 0.12  # of ink to paper, as a share of the paper's brightness
MIN_CONTRAST_TO_NOISE = 7  # the same in standard deviations of the paper: noise never reaches it
BLUR = 400  # the longer side of a large picture per sigma of its blur


def to_grey(picture: Floats) -> Floats:
    """(h, w) in 0-255, projected on the colour in which ink and paper differ most."""
    if picture.ndim == 2:
        return picture
    small = [_downscale(picture[..., channel], 4 * COARSE) for channel in range(3)]
    centred = np.stack([channel - _lighting(channel) for channel in small]).reshape(3, -1)
    weights = np.linalg.eigh(centred @ centred.T)[1][:, -1]  # the first principal component
    weights /= np.abs(weights).sum()
    return np.asarray(picture @ weights.astype(np.float32) - 255 * weights.clip(max=0).sum())


def ink_by_threshold(grey: Floats) -> Floats:
    """As `ink_by_background`, by Otsu's threshold: the rarer of two tones; all 0 without two."""
    threshold = _otsu(grey)
    light = grey > threshold
    share = light.mean()
    between = share * (1 - share) * (grey[light].mean() - grey[~light].mean()) ** 2
    if between < MIN_SEPARATION * grey.var():
        return np.zeros_like(grey)
    frame = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    rarer = share if abs(share - 0.5) > 0.1 else frame.mean()  # cropped closely, it fills its box
    ink = light if rarer < 0.5 else ~light
    paper, full = float(np.median(grey[~ink])), float(np.median(grey[ink]))
    if abs(full - paper) < 2 * MIN_CONTRAST * 255:
        return np.zeros_like(grey)
    return np.asarray(((grey - paper) / (full - paper)).clip(0, 1))


def ink_by_background(grey: Floats) -> Floats:
    """(h, w) from 0 on paper to 1 on strokes, whatever the lighting; all 0 without contrast."""
    blank = np.zeros_like(grey)
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / BLUR if max(grey.shape) > 100 else 0)
    if ((grey - _lighting(grey)) ** 3).mean() > 0:  # the rarer tail is the ink
        grey = 255 - grey
    grey = grey / _lighting(grey).clip(min=8)
    coarse = ndimage.median_filter(_downscale(grey, 2 * COARSE), 3, mode="nearest")
    window = [max(3, int(0.4 * side)) for side in coarse.shape]  # wider than a stroke
    paper = ndimage.gaussian_filter(ndimage.grey_closing(coarse, window, mode="nearest"), 1)
    ink = 1 - grey / _upscale(paper, grey).clip(min=0.01)
    if np.ptp(ink) < MIN_CONTRAST:
        return blank
    below = ink[ink <= _otsu(ink)]
    base, noise = float(np.median(below)), float(below.std())
    strong = ink[ink > base + 4 * noise + MIN_CONTRAST]
    if strong.size < 8:
        return blank
    full = float(np.median(strong[strong >= _otsu(strong)])) - base
    if full < max(MIN_CONTRAST, MIN_CONTRAST_TO_NOISE * noise):
        return blank
    return np.asarray(((ink - base) / full).clip(0, 1))


def _lighting(grey: Floats) -> Floats:
    """The lighting, as the least-squares quadratic surface through the picture."""
    coarse = _downscale(grey, COARSE)
    height, width = coarse.shape
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    surface = terms @ np.linalg.lstsq(terms, coarse.ravel())[0]
    return _upscale(surface.reshape(coarse.shape).astype(np.float32), grey)


def _otsu(values: Floats) -> float:
    """The threshold with the largest variance between its two classes.

    Source: Otsu (1979), "A threshold selection method from gray-level histograms".
    """
    counts, edges = np.histogram(values.astype(np.float64), 256)  # float32 fails on a tiny range
    below = counts.cumsum()
    sums = (counts * (edges[:-1] + edges[1:]) / 2).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return float(edges[1 + int(np.nan_to_num(between[:-1], posinf=0).argmax())])


def _downscale(grey: Floats, side: int) -> Floats:
    """The picture averaged down to at most `side` pixels per side."""
    scale = side / max(grey.shape)
    if scale >= 1:
        return grey
    size = [max(1, round(scale * length)) for length in reversed(grey.shape)]
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def _upscale(coarse: Floats, like: Floats) -> Floats:
    """The picture interpolated to the size of `like`."""
    height, width = like.shape
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
