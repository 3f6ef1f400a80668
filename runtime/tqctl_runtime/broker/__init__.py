"""The live half: everything that is decided atomically inside Redis or Valkey."""
