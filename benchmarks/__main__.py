"""Every benchmark, one after the other."""

from benchmarks import epochs, serving, start_up, sweeps

epochs.main()
start_up.main()
sweeps.main()
serving.main()
