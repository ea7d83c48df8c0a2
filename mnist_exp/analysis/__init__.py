"""Analysis of finished runs: comparison, robustness, reproduction."""
