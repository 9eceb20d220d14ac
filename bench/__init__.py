"""Side-by-side benchmarks: Twintide and its peers do the same job on the same servers in one run."""
