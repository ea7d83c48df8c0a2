"""An augmentation: images bent by smooth random displacements (Simard et al., 2003)."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates


def bend(images, random, *, pixels, smoothing=4.0):
    """The (n, 28, 28) uint8 images, each pixel moved by `pixels` on average."""
    n, height, width = images.shape
    moves = random.standard_normal((2, n, height, width)).astype(np.float32)
    moves = gaussian_filter(moves, (0, 0, smoothing, smoothing))
    moves *= pixels / moves.std()
    image, row, column = np.meshgrid(
        np.arange(n), np.arange(height), np.arange(width), indexing="ij"
    )
    return map_coordinates(images, [image, row + moves[0], column + moves[1]], order=1)
