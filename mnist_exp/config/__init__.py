"""The config: its schema, and how YAML and overrides become a validated `Config`."""
