"""Data sets that this project draws itself, and the commands that draw them."""
