"""The engine of tqctl: it accepts tasks, runs them, records them and answers for them."""
