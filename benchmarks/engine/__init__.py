"""What the engine costs and gives, beside other engines on the same texts: speed, latency, memory, start."""
