"""Who takes part: every contestant's own form of a problem."""
