"""The trainers, each a jitted step and a whole run, and the one loop that runs them."""
