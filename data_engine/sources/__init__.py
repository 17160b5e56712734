"""Sources: where documents come from, and the readers of their files."""
