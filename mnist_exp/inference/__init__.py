"""Inference with a run's model."""
