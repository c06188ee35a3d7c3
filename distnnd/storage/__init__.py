"""Floor 1: what lies on disk and how it is read and written. No mathematics."""
