"""Training: the loop, the step, and everything that a run changes or writes."""
