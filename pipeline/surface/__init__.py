"""3D objects taken apart on their own surface: atoms, which of them belong together, and their hierarchy."""
