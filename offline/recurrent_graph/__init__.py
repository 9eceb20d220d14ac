"""How a recurrent encoder beside a graph of items learns: from the past alone, period after period."""
