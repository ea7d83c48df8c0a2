"""Hydra finds our sweeper here; everything heavy stays behind the call."""
