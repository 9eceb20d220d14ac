"""Made-up users who click now and then, and a reader that waits for their vectors: freshness from outside."""
