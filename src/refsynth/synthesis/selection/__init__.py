"""What a draft is worth, and which are taken: the screen, scorers, the filter with its reasons, influence, diversity.

Every draft is kept, or dropped for one named reason.
"""
