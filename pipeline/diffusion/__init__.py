"""The multi-view diffusion models: autoencoder, networks and their conditioning, sampling."""
