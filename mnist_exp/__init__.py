"""Config-driven handwritten-digit experiments: Hydra chooses, Keras trains, MLflow remembers."""
