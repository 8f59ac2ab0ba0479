"""Small models, images, services and stand-ins that several tests share."""
