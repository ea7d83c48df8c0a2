"""What any Python project has: errors, console, files, locks, signals, hardware, versions."""
