"""The pure part: words, arithmetic and formats. No input or output, no third-party import but msgpack."""
