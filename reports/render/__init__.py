"""Tables as text, Markdown, LaTeX and CSV."""
