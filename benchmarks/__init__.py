"""Measurements. Each module is a command; none is run by the tests."""
