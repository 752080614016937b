"""Model directories: reads and writes checkpoints and `config.json`."""
