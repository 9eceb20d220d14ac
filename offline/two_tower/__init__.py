"""How two towers over features learn: one TOML file, a log, and a CSV file of features for each side."""
