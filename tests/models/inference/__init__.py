"""Tests of models/inference."""
