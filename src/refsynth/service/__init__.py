"""A bundle as a service: HTTP, and what is remembered of its work. Never imports torch, and nothing that trains."""
