"""A run's model at work."""
