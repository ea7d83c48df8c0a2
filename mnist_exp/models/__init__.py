"""Keras models: families, layers, saving and loading, forward passes, conversion."""
