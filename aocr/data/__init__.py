"""Annotations, TFRecords, the record index and the input pipeline."""
