"""Process and platform: start-up, console, file systems, devices, several workers."""
