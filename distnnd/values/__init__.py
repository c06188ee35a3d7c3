"""Floor 0: names, specs, plans and errors. Describes, never does: standard library and numpy only."""
