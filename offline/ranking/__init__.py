"""What a ranking is asked, who ranks, and how well: shared by training, the baselines and the evaluation."""
