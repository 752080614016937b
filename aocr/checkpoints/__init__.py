"""Model directories: which checkpoints they hold, and how they are read and written."""
