"""From seed examples and label descriptions to drafts: what to ask, how to ask it, asking it, reading the answers."""
