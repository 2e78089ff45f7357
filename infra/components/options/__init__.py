"""Components that a stack may do without: each off until its settings ask for it."""
