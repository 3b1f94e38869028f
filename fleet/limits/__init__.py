"""Rate limits, budgets and lockouts per client, and the identification of clients by address."""
