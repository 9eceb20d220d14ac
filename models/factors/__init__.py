"""Matrix factorisation with biases, whose users are folded in from their windows in closed form; no torch."""
