"""How a matrix factorisation learns: users and items in turn, each by ridge regression on the other."""
