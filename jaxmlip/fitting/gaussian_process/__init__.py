"""Gaussian-process regression with sparse points: kernel rows, sparse points, predictive variance, evidence."""
