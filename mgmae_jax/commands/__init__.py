"""One thin main for each command of `mgmae`."""
