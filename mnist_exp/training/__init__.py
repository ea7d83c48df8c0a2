"""The training engine: epochs, optimizers, augmentation, checkpoints, callbacks."""
