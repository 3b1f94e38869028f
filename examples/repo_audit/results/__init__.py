"""What the audit found: findings and their rules, combined (`gathering`) and put in order (`ranking`)."""
