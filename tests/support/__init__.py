"""What tests are made with: tiny models, rows and tasks, servers to ask, and references of their own."""
