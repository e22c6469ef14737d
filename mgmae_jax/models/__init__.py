"""The video transformer and the masked autoencoder."""
