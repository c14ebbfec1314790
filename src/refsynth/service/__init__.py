"""Serve a bundle over HTTP, and record what it answered. Never imports torch or anything that trains."""
