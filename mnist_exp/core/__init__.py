"""What every package uses: errors, console, files, layout, locks, signals, hardware, provenance."""
