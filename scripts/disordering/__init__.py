"""The parts of scripts/disorder.py."""
