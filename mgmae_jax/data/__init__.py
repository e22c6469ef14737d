"""From video files to batches of clips, on the host: no jax here."""
