"""Every benchmark, one after the other."""

from benchmarks import epochs, start_up, sweeps

epochs.main()
start_up.main()
sweeps.main()
