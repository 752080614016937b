"""The training loop and everything that a training changes or writes."""
