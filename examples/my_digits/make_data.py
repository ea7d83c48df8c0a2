"""Write scikit-learn's 1,797 real digits of 8x8 pixels as small_digits/<digit>/<number>.png.

They are from the UCI repository: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten
Digits, 1998.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = Path("small_digits", str(label))
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.round(image * 255 / 16).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:04}.png")
print(f"{len(digits.images)} pictures in small_digits/")
