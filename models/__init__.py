"""What training and serving share: networks, preprocessing, probabilities and checkpoints."""
