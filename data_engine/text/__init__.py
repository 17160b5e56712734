"""From a format to plain text: HTML, PDF, LaTeX, wikitext, books."""
