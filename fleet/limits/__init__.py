"""How much of the fleet's time one client may take, and who that client is."""
