"""Hydra's plugins: sweepers and a launcher; everything heavy is imported when they are called."""
