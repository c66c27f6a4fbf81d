"""One description of a training step: what it keeps, its operations, their memory, and its arrangement."""
