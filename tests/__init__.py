"""Tests of aocr; run them with `python -m pytest`."""
