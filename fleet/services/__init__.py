"""What a fleet runs on and the processes that it is made of: who starts them, watches them and stops them."""
