"""What the reader sees: a live view in JupyterLab, growing text in a terminal, one settled bundle at the end."""
