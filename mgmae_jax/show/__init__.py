"""Pictures, drawn from host arrays."""
