"""Small programs that show what the networks in `models` are good for."""
