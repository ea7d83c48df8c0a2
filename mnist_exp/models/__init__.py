"""Keras models: families, layers, saving and loading, forward passes, conversion."""

from mnist_exp.core.environment import name_user, refuse_nonsense, use_tensorflow

use_tensorflow()  # before the first import of Keras
refuse_nonsense()
name_user()
