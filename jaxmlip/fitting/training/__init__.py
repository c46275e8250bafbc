"""Iterative fits: the loop with validation and checkpoints, its optimisers, and devices."""
