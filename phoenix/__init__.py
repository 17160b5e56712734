"""What the scripts share; it imports neither a script nor data_engine."""
