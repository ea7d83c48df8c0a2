"""Many experiments as one: grids, searches, launchers, results."""
