"""What a trained network is worth: metrics, calibration, errors."""
