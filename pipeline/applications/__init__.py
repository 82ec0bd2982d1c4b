"""The applications: objects in parts out of a text, a picture or a 3D object, and their editing."""
