"""Where the rooms meet: components built from the configuration, and the whole flow from rows to bundle."""
