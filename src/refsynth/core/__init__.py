"""What every other package shares: values, protocols, configuration, errors, the run folder and its steps, intervals.

It knows nothing about models, and of files only the run folder's own. Nothing here prints, except the observer `Printed`.
"""
