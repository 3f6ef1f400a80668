"""The experiments: each measures some rows of one system on a fresh stage."""
