"""Readers of formats (HTML, PDF, LaTeX, wikitext, books, questions) to plain text, and the one form of text (normalise.py)."""
