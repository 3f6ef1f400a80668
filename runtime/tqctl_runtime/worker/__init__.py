"""The worker: a supervisor that talks to the broker, a nursery that imported the handlers, executors that run them."""
