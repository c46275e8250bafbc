"""Basis."""
