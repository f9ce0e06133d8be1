"""Studies of the batch size from the command line: compare and speed."""
