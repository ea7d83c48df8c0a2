"""Sweeps: grids, searches, launchers, results."""
