"""The built-in handlers. They are plain functions; ``core.builtins`` names them, a nursery registers them."""
