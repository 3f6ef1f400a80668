"""Side-by-side benchmark: tqctl on both pairs of stores, two floors and three peers, in one run.

``python -m tests.bench`` installs each peer into a virtual environment of its own, starts private servers on loopback,
measures every row for every system with the rounds interleaved, and prints medians, ratios and goals.
"""
