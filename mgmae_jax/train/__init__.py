"""The jitted steps and the loop that runs them."""
