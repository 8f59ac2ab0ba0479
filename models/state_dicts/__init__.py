"""Weights of other projects: from their files to our networks."""
