"""How user encoders other than dual towers are trained: chosen by held-out rows, fitted to all, published."""
