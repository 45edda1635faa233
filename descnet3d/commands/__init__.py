"""What is typed: one module a command or for two that are alike, its flags, and the console."""
