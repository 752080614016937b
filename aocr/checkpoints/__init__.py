"""Model directories: checkpoints and `config.json`, how they are read and written."""
