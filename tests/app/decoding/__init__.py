"""Tests of app/decoding."""
