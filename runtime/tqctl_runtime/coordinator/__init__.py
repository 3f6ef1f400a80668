"""The coordinator: any number run, one leads and does what must be done once."""
