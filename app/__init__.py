"""The HTTP service: bytes in, calibrated probabilities out."""
