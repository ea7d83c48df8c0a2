"""A small vision transformer: Dosovitskiy et al., 2021, without a class token."""

import keras
from keras import layers


@keras.saving.register_keras_serializable("my_digits")
class Position(layers.Layer):
    """Adds a learned vector to each patch."""

    def build(self, shape):
        """One weight for each number of each patch."""
        self.position = self.add_weight(
            shape=shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="position",
        )

    def call(self, patches):
        """The patches (n, patches, width) and their places."""
        return patches + self.position


def vit(images, classes, *, depth, width, heads=4, patch=7, dropout=0.1):
    """Scores (n, classes) of images (n, 28, 28, 1)."""
    hidden = layers.Conv2D(width, patch, patch, name="patches")(images)
    hidden = Position()(layers.Reshape((-1, width))(hidden))
    for _ in range(depth):
        normal = layers.LayerNormalization()(hidden)
        hidden = layers.Add()(
            [hidden, layers.MultiHeadAttention(heads, width // heads)(normal, normal)]
        )
        normal = layers.LayerNormalization()(hidden)
        wide = layers.Dropout(dropout)(layers.Dense(2 * width, "gelu")(normal))
        hidden = layers.Add()([hidden, layers.Dense(width)(wide)])
    hidden = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))
    return layers.Dense(classes)(hidden)
