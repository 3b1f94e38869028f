"""What tests stand on: real services of their own."""
