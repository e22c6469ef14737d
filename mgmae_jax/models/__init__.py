"""The video transformer, the masked autoencoder and the classifier."""
