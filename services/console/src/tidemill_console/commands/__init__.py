"""One module a noun; each function is a command."""
