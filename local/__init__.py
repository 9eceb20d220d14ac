"""Real servers as child processes, and what `./run` does with them."""
