"""From video files to batches of clips, in numpy alone."""
