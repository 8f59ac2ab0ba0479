"""Evaluation of a trained network: metrics, calibration and errors."""
