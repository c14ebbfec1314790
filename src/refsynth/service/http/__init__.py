"""Serve a bundle over HTTP: bounded queue, micro-batches, health checks, worker restarts, drain, reload. Never imports torch."""
