"""Benchmarks on real data sets, resumable cell by cell. They use the package as a user does and know nothing of its inside."""
