"""Tests of models/formats."""
