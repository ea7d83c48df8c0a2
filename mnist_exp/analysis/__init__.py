"""Questions asked of finished runs: comparison, robustness, reproduction."""
