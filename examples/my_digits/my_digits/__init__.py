"""Parts for mnist_exp: a model, an augmentation, a metric and a callback."""
