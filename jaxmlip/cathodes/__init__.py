"""Cathodes."""
