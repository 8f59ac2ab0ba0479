"""Checkpoints for other runtimes, each compared with our own logits."""
