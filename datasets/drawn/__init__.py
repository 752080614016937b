"""Draws labeled images of text lines to train the built-in model `latin` on."""
