"""Pictures, drawn from arrays."""
