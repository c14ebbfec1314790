"""What a draft is worth: scorers, the filter with its reasons, leakage, and the report on the data that comes out."""
