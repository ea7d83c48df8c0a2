"""A callback: stop once the validation accuracy is high enough."""

import keras


class StopAt(keras.callbacks.Callback):
    """Ends the training after the first epoch with this validation accuracy."""

    def __init__(self, accuracy):
        """Of at least this `accuracy`, between 0 and 1."""
        super().__init__()
        self.accuracy = accuracy

    def on_epoch_end(self, epoch, logs=None):
        """Look at the epoch's figures, by Keras' names or ours."""
        if logs["val_accuracy"] >= self.accuracy:
            self.model.stop_training = True
