"""What `scripts/benchmark.py` runs: the cases, our side, the peers, and the tables."""
