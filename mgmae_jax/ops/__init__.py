"""Small array functions that the other rooms share."""
