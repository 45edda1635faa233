"""How good shapes and models are: distances, scores of sets, one module a task, the tables."""
