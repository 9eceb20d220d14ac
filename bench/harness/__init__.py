"""What the benchmarks share: data whose result is known, contestants as processes, and their report."""
