"""Rewrites of a trained network that make inference faster."""
