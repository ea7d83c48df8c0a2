"""The config: what may be written, and how YAML and overrides become a validated `Config`."""
