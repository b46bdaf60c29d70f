"""A whole fleet on this machine, for `heimdall dev`, `heimdall demo`, tests and benchmarks."""
