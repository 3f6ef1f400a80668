"""What the suites share: servers, waiting, a breakable network and the check for leaked keys."""
