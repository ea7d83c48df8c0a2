"""A recorded run: its folder, its record in MLflow, and how to find it."""
