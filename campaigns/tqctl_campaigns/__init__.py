"""Email campaigns on top of the task queue; it holds nothing yet, the engine comes first."""
