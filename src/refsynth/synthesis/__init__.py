"""From seed examples and label descriptions to drafts: what to ask, how to ask it, asking it, reading the answers, rounds.

Selection and reinforcement have folders of their own. What a model of the drafts is worth is for `learning` to say.
"""
