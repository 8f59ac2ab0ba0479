"""Tests of models.state_dicts."""
