"""Image files and bytes, turned into the network's input."""
