"""From a data set's name to splits of uint8 images, and their augmentation."""
