"""Labels at low cost: which texts to label next, adding labels, several annotators, rules, and the value of more labels."""
