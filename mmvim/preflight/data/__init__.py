"""What is wrong in people's data, found before a model sees them."""
