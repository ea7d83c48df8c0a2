"""Every benchmark, one after the other."""

from benchmarks import epochs, start_up

epochs.main()
start_up.main()
