"""Cation disorder: which cation sits where, sampled with a potential, and what follows for lithium."""
