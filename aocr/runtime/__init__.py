"""The process and its platform: start-up, console, file systems, devices and workers."""
