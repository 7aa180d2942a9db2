"""What a result file says: tables, summaries, pictures, one Markdown document."""
