"""Benchmarks on real data: what the package is worth, how fast it is and what it withstands. Not part of the wheel.

`python -m benchmarks NAME` runs one, `python -m benchmarks tables` prints the tables of the documents. Read `bench`
first: what a bench is and how it is run. `cells`, `figures` and `sets` are what all share, `suite` is the form of those that
compare accuracies; the other modules are benches, and `engine` and `serve` have the parts of two of them. `constants` are scripts
that choose constants. Benchmarks use the package as a user does; the package never imports them.
"""
