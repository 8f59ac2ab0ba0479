"""The image formats: a module each that walks a file's structure and reduces the file to its one picture."""
