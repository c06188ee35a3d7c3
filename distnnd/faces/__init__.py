"""Floor 5: what speaks to a person: command line, progress, reports."""
