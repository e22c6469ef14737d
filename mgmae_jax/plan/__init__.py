"""How a run would use machines that are not here: memory, time and data, chip by chip."""
