"""The towers' vectors fast: on a CPU, on a GPU, and from a cache."""
