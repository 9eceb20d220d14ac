"""Making an artifact of a model that others trained: what is given, and whether it holds to the contract."""
