"""A bundle over HTTP: bounded queue, micro-batches, honest health, replaced workers, drain, reload. Never imports torch."""
