"""Programs that run inside each system's own virtual environment; beside that system they need the stdlib only."""
