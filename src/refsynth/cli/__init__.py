"""The command line: one module per command group. The commands print; other packages return values or report to an observer."""
