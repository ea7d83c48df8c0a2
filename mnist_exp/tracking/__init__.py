"""A run's journal, and its copy in MLflow."""
