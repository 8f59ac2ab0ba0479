"""The queue, the model replicas, and an image's way through them."""
