"""What is typed: one module a command, its flags, and the console."""
