"""No domain: errors, console, files, layout, locks, signals, hardware, provenance."""
