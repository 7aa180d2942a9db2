"""How one case becomes records: gate, clock, memory, budget, and the process that does it."""
