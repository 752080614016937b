"""Draws labeled images of text lines to train the base model `latin` on."""
