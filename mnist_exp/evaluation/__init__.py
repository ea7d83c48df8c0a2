"""Metrics, significance tests, corruptions: NumPy in, numbers out."""
