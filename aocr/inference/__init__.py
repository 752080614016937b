"""Image bytes to text: the recognizer, its graph and its exports."""
