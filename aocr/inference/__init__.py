"""Recognition: the graph from encoded images to text, the Python API around it, and exports."""
