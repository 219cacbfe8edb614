"""What results look like: tables for the terminal, Markdown and CSV, plots, and the HTML report."""
